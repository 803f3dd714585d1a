"""A whole page for people, of tables and pictures: small, read-only, in one file.

Rules: everything that it shows is in it, and its own policy forbids a browser to load or run anything else; light or
dark as the reader's system is, on a narrow screen as on a wide one. Escaping is `drawing`'s.

>>> text = page("alice", [("What it holds", [Table(("origin", "results"), [("computed here", 3)])])])
>>> text.startswith("<!doctype html>"), "<script" in text
(True, False)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from artdag_fed.drawing import Graph, Table, fit, html

__all__ = ["page"]

STYLE = """
:root{color-scheme:light dark;--ink:#1d2530;--ground:#ffffff;--line:#5a6675;--soft:#f3f5f8}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--ground:#14181e;--line:#8d99a8;--soft:#1f252d}}
body{margin:0 auto;padding:1rem;max-width:60rem;color:var(--ink);background:var(--ground);
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:1.5rem 0 .5rem}
section>*{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;margin:.5rem 0}
caption{padding:.25rem 0}
th,td{padding:.25rem .75rem .25rem .25rem;border-bottom:1px solid var(--line);vertical-align:top}
tbody tr:nth-child(even){background:var(--soft)}
img{display:block;margin:.5rem 0}
""".strip()

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, sections: Iterable[tuple[str, Sequence[str | Table | Graph]]]) -> str:
    """An HTML document: a heading, then sections, each a heading of its own and paragraphs, tables and pictures.

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
        for part in parts:
            out.append(f"<p>{escape(fit(part, 2000))}</p>" if isinstance(part, str) else f"<div>{html(part)}</div>")
        out.append("</section>")
    return "".join([*out, "</body></html>"])
