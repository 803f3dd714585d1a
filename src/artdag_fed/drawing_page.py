"""A whole page for people, of tables and pictures: small, read-only, in one file.

Rules: everything that it shows is in it, and its own policy forbids a browser to load or run anything else, down to
styles that are none of the drawing kit's; light or dark as the reader's system is, on a narrow screen as on a wide one,
and on paper. Escaping is `drawing`'s.

>>> text = page("alice", [("What it holds", [Table(("origin", "results"), [("computed here", 3)])])])
>>> text.startswith("<!doctype html>"), "<script" in text
(True, False)
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape
from typing import NamedTuple

from artdag_fed.drawing import STYLES, Box, Graph, Mark, Table, fit, html

__all__ = ["POLICY", "Code", "page"]

CODE = 2000  # columns of a line; a longer one is cut, and does nothing by mistake

STYLE = """
:root{color-scheme:light dark;--ink:#1d2530;--ground:#ffffff;--line:#5a6675;--soft:#f3f5f8}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--ground:#14181e;--line:#8d99a8;--soft:#1f252d}}
body{margin:0 auto;padding:1rem;max-width:60rem;color:var(--ink);background:var(--ground);
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:1.5rem 0 .5rem}
section>*{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;margin:.5rem 0}
caption{padding:.25rem 0}
pre{margin:.5rem 0;padding:.5rem .75rem;background:var(--soft);border:1px solid var(--line);border-radius:4px;
white-space:pre-wrap;font:.875rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
th,td{padding:.25rem .75rem .25rem .25rem;border-bottom:1px solid var(--line);vertical-align:baseline;
overflow-wrap:break-word}
td:first-child{overflow-wrap:anywhere;min-width:7rem}
tbody tr:nth-child(even){background:var(--soft)}
img{display:block;margin:.5rem 0}
@media print{body{max-width:none;padding:0}section>*{overflow:visible}img{max-width:100%;height:auto}
tr,img,pre{break-inside:avoid}h2{break-after:avoid}}
""".strip()


def _hashes() -> str:
    """The styles that a page has, as a policy names them. They are few, and found in a piece that has all of them."""
    rows = [(Mark(kind, kind), kind, 1) for kind in STYLES]
    drawn = html(Table(("a", "b", "c"), rows, "a caption", "more"), Graph((Box("a"),)))
    styles = dict.fromkeys([STYLE, *re.findall(r' style="([^"]*)"', drawn)])
    return " ".join(f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" for style in styles)


POLICY = f"default-src 'none'; img-src data:; style-src 'unsafe-hashes' {_hashes()}"
"""A Content-Security-Policy. `unsafe-hashes` is how it allows a style in an attribute: just those with these hashes."""


class Code(NamedTuple):
    """Lines to be copied into a program or a terminal."""

    lines: tuple[str, ...]


def page(title: str, sections: Iterable[tuple[str, Sequence[str | Code | Table | Graph]]]) -> str:
    """An HTML document: a heading, then sections, each a heading of its own and paragraphs, code, tables and pictures.

    Serve it as UTF-8 with `POLICY` as its Content-Security-Policy, too, where there are headers.
    """
    name = escape(fit(title, 120))
    out = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{name}</title><style>{STYLE}</style></head><body><h1><bdi>{name}</bdi></h1>",
    ]
    for heading, parts in sections:
        out.append(f"<section><h2><bdi>{escape(fit(heading, 120))}</bdi></h2>")
        out += [*map(_part, parts), "</section>"]
    return "".join([*out, "</body></html>"])


def _part(part: str | Code | Table | Graph) -> str:
    if isinstance(part, str):
        return f"<p>{escape(fit(part, 2000))}</p>"
    if isinstance(part, Code):
        return f"<pre><code>{escape(chr(10).join(fit(line, CODE) for line in part.lines))}</code></pre>"
    return f"<div>{html(part)}</div>"
