"""Rows and layered graphs as HTML and SVG: what notebooks and the page for people show.

Rules: knows none of our types. Whatever text comes in is shortened and escaped here, so that no caller has to; what
goes out is one piece of HTML without scripts, style sheets, ids or links. A picture is an `<img>` of its own bytes,
which stays inert in notebooks that are not trusted and works offline; it has its own light panel behind it, and marks
in tables have their own ground, so both are legible whatever the theme around them is. A state is said in words, and
only repeated by colour and dashes; `alt` says all that the picture does.

>>> table = Table(("origin", "results"), [(Mark("here", "computed here"), 1200), ("from 'alice'", 3)], "An instance")
>>> "1,200" in html(table), html(Graph((Box("<b>"),))).startswith('<div style="overflow-x:auto"><img src="data:image/')
(True, True)
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import NamedTuple

from artdag_fed.drawing_graph import BOXES, Box, Graph, Kind, nearest
from artdag_fed.drawing_layout import layout
from artdag_fed.drawing_text import dot, mermaid, sentences
from artdag_fed.drawing_words import fit, quoted, wrapped

__all__ = [
    "BOXES",
    "INK",
    "LINE",
    "PANEL",
    "STYLES",
    "Amount",
    "Box",
    "Cell",
    "Graph",
    "Kind",
    "Mark",
    "Style",
    "Table",
    "dot",
    "fit",
    "html",
    "mermaid",
    "nearest",
    "quoted",
    "sentences",
    "size",
    "svg",
]

PANEL, INK, LINE = "#ffffff", "#1d2530", "#5a6675"  # behind a picture; its text; its arrows
ROWS = 30  # of a table; the rest is counted
PADDING = "padding:2px 14px 2px 4px"
CELL = 100  # columns of a text in a table

COLUMNS = 24  # of a line in a box
LINES = 3  # for the state
TYPE = 12  # pixels
ADVANCE = 0.602  # of TYPE: what a letter of the usual monospaced fonts is wide
BOX_WIDTH = 194
LEADING = 16
FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"


class Style(NamedTuple):
    """How a kind of box looks: ground, edge, the ink of its state, dashes of the edge, width of the edge."""

    ground: str
    edge: str
    ink: str
    dashes: str = ""
    width: float = 1.5


STYLES: Mapping[Kind, Style] = MappingProxyType(
    {
        "plain": Style("#f3f5f8", "#5a6675", "#3d4754"),
        "here": Style("#d9f5e0", "#1c7c3c", "#0f5426"),
        "peer": Style("#dcecff", "#1f63c4", "#12458f"),
        "missing": Style("#fff3c9", "#8f6400", "#6b4a00", "7 4"),
        "wanted": Style("#efe3ff", "#7a45cf", "#54279c", "2 3"),
        "refused": Style("#ffe3cf", "#b9480b", "#863004", "10 3 2 3"),
        "failed": Style("#ffe0e0", "#c4202c", "#9c0f1b", "", 3),
        "skipped": Style("#e4e7ec", "#5a6675", "#454f5c", "7 4"),
        "unneeded": Style("#ffffff", "#7d8896", "#5a6675", "1 4"),
    }
)
"""Text on each ground, and each edge on the panel, have the contrast that WCAG asks for; a test works it out."""


class Mark(NamedTuple):
    """A state in a table: words on the ground of its kind."""

    kind: Kind
    words: str


class Amount(NamedTuple):
    """A number with its unit: it stands where numbers do, in one piece."""

    words: str


Cell = str | int | Mark | Amount


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a heading; `more` is said where there are other rows that are not given, or more than are shown.

    A column in which no row says anything is left out.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    more: str = ""


def html(*parts: Table | Graph) -> str:
    """Tables and pictures below each other, as HTML to be put into a page. An empty graph is left out."""
    made = [_table(part) if isinstance(part, Table) else _image(part) for part in parts if _shows(part)]
    return made[0] if len(made) == 1 else f"<div>{''.join(made)}</div>"


def size(count: int) -> str:
    """A number of bytes for people.

    >>> size(999), size(1_500_000)
    ('999 B', '1.5 MB')
    """
    number = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 999.5 or unit == "TB":
            break
        number /= 1000
    return f"{number:,.0f} {unit}" if unit == "B" or number >= 99.5 else f"{number:.1f} {unit}"


# --- tables -----------------------------------------------------------------------------------


def _shows(part: Table | Graph) -> bool:
    return bool(part.boxes) if isinstance(part, Graph) else True


def _table(table: Table) -> str:
    shown = [at for at, _ in enumerate(table.columns) if not table.rows or any(row[at] != "" for row in table.rows)]
    lines = ["<table>"]
    if table.caption:
        lines.append(f'<caption style="text-align:left;{PADDING}">{_bdi(table.caption, 2 * CELL)}</caption>')
    if any(table.columns):
        names = [table.columns[at] for at in shown]
        heads = "".join(f'<th style="text-align:left;{PADDING}">{_bdi(name, CELL)}</th>' for name in names)
        lines.append(f"<thead><tr>{heads}</tr></thead>")
    lines.append("<tbody>")
    lines += [f"<tr>{''.join(_cell(row[at]) for at in shown)}</tr>" for row in table.rows[:ROWS]]
    hidden = len(table.rows) - ROWS
    more = f"and {hidden:,} more" + (f"; {table.more}" if table.more else "") if hidden > 0 else table.more
    if more:
        lines.append(f'<tr><td colspan="{len(shown)}" style="text-align:left">{_bdi(more, 2 * CELL)}</td></tr>')
    return "".join([*lines, "</tbody></table>"])


def _cell(cell: Cell) -> str:
    if isinstance(cell, int | Amount):
        number = f"{cell:,}" if isinstance(cell, int) else _bdi(cell.words, CELL)
        return f'<td style="text-align:right;white-space:nowrap;{PADDING}">{number}</td>'
    if isinstance(cell, Mark):
        style = STYLES[cell.kind]
        look = f"background:{style.ground};color:{style.ink};border:1px solid {style.edge};border-radius:4px;"
        inside = f'<span style="{look}display:inline-block;padding:1px 6px">{_bdi(cell.words, CELL)}</span>'
    else:
        inside = _bdi(cell, CELL)
    return f'<td style="text-align:left;{PADDING}">{inside}</td>'


def _bdi(text: str, most: int) -> str:
    """Text that cannot turn round the writing beside it."""
    spelt = escape(fit(text, most), quote=False)
    return spelt if spelt.isascii() else f"<bdi>{spelt}</bdi>"


# --- pictures ---------------------------------------------------------------------------------


def _image(graph: Graph) -> str:
    data = b64encode(svg(graph).encode()).decode()
    alt = escape(sentences(graph), quote=False).replace('"', "&quot;")
    # At its natural size, in a frame that scrolls: made smaller, a wide one could not be read.
    return f'<div style="overflow-x:auto"><img src="data:image/svg+xml;base64,{data}" alt="{alt}"></div>'


def svg(graph: Graph) -> str:
    """The graph as an SVG document: light panel, dark text, no scripts, nothing fetched."""
    contents = {box.key: _lines(box) for box in graph.boxes}
    tall = max((len(lines) for lines in contents.values()), default=1) * LEADING + 12
    place = layout(graph, width=BOX_WIDTH, height=tall)
    width = max(place.width, 330) if graph.note else place.width
    shift = (width - place.width) // 2
    note = wrapped(graph.note, int((width - 24) / (TYPE * ADVANCE)), 4) if graph.note else []
    height = place.height + len(note) * LEADING + (6 if note else 0)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="{FONT}" font-size="{TYPE}" fill="{INK}">'
        f"<title>{escape(fit(graph.name, CELL), quote=False)}</title>",
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="{PANEL}" stroke="{LINE}"/>',
        f'<g transform="translate({shift})">' if shift else "<g>",
    ]
    if place.arrows:
        curves = [_curve(*arrow) for arrow in place.arrows] + [f"M{x} {y}V{end}" for x, y, end in place.lanes]
        heads = "".join(f"M{x} {y}l-4-8h8z" for x, y in place.heads)
        out.append(f'<path d="{"".join(curves)}" fill="none" stroke="{LINE}" stroke-width="1.5"/>')
        out.append(f'<path d="{heads}" fill="{LINE}"/>')
    for box in graph.boxes:
        x, y = place.boxes[box.key]
        style = STYLES[box.kind]
        dashes = f' stroke-dasharray="{style.dashes}"' if style.dashes else ""
        # An inner <svg> clips: whatever a font makes of a name, it stays in its box.
        out.append(
            f'<svg x="{x - 2}" y="{y - 2}" width="{BOX_WIDTH + 4}" height="{tall + 4}" font-weight="700">'
            f'<rect x="2" y="2" width="{BOX_WIDTH}" height="{tall}" rx="6" fill="{style.ground}" stroke="{style.edge}" '
            f'stroke-width="{style.width}"{dashes}/>'
        )
        first = (tall - len(contents[box.key]) * LEADING) // 2 - 2
        for at, (text, bold, ink) in enumerate(contents[box.key], 1):
            weight = "" if bold else ' font-weight="400"'
            colour = "" if ink == INK else f' fill="{ink}"'
            out.append(f'<text x="12" y="{first + at * LEADING}"{weight}{colour}>{escape(text, quote=False)}</text>')
        out.append("</svg>")
    out.append("</g>")
    out += [
        f'<text x="12" y="{place.height + at * LEADING + 4}">{escape(line, quote=False)}</text>'
        for at, line in enumerate(note)
    ]
    return "".join([*out, "</svg>"])


def _lines(box: Box) -> list[tuple[str, bool, str]]:
    """The lines in a box: text, whether it is bold, its colour."""
    ink = STYLES[box.kind].ink
    lines = [(fit(box.title, COLUMNS), True, INK)]
    if box.detail:
        lines.append((fit(box.detail, COLUMNS), False, INK))
    if box.hidden:
        lines.append((fit(box.unseen, COLUMNS), False, INK))
    if box.words:
        lines += [(line, True, ink) for line in wrapped(box.words, COLUMNS, LINES)]
    return lines


def _curve(x: int, y: int, to_x: int, to_y: int) -> str:
    if x == to_x:
        return f"M{x} {y}V{to_y}"
    half = (y + to_y) // 2
    return f"M{x} {y}C{x} {half} {to_x} {half} {to_x} {to_y}"
