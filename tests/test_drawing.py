"""Tables and pictures: legible, harmless, bounded, and saying in words what they show."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from graphlib import CycleError
from html.parser import HTMLParser
from itertools import combinations
from typing import get_args
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artdag_fed.drawing import (
    INK,
    LINE,
    PANEL,
    STYLES,
    Box,
    Graph,
    Kind,
    Mark,
    Table,
    dot,
    fit,
    html,
    mermaid,
    nearest,
    quoted,
    sentences,
    svg,
)
from artdag_fed.drawing_layout import layout
from artdag_fed.drawing_page import STYLE, page
from artdag_fed.drawing_words import wrapped

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</text></svg><svg onload=alert(1)>",
    "]]><!--&lt;&#60;",
    '"]; click n1 href "javascript:alert(1)"\nn2["',
    '"]\n}\ndigraph { evil [label="\\',
    "end\nflowchart TD\nsubgraph x",
    "abc\u202edcba\u2066\u200b\u0000\u0007\u001b[31m\ufffe\ud800",
    "Z" + "\u0300" * 500,
    "x" * 10_000,
    "#quot;#35; `**bold**` %%{init: {}}%%",
]
TAGS = {
    *("div", "table", "caption", "thead", "tbody", "tr", "th", "td", "span", "bdi", "img"),
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "section", "p"),
}
SHAPES = {"svg", "title", "rect", "g", "path", "text"}
STRANGE = ("\u202e", "\u2066", "\u200b", "\x00", "\x07", "\x1b", "\ufffe", "\ud800", "\n")


class Reader(HTMLParser):
    """Tags with their attributes, and text, as a browser finds them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data


def pictures(text: str) -> list[tuple[str, ElementTree.Element]]:
    """(alt, parsed SVG) of each picture in a piece of HTML."""
    found = []
    for tag, attributes in Reader(text).tags:
        if tag == "img":
            kind, _, data = attributes["src"].partition(",")
            assert kind == "data:image/svg+xml;base64"
            found.append((attributes["alt"], ElementTree.fromstring(base64.b64decode(data, validate=True))))
    return found


def local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def chain(*boxes: Box) -> Graph:
    return Graph(boxes, "A graph")


# --- words ------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=())), st.integers(4, 60))
def test_whatever_a_name_is_it_becomes_one_printable_line_of_its_columns(name: str, most: int) -> None:
    for line in (fit(name, most), quoted(name, most), *wrapped(name, most, 2)):
        assert line.isprintable() or not line
        assert len(line) <= most
        line.encode()


def test_a_short_name_in_any_script_stays_as_it_is() -> None:
    for name in ("blur@1", "フレーム@2", "größe", "קלט", "हिन्दी"):
        assert fit(name, 24) == name


def test_a_heap_of_combining_marks_does_not_climb_over_the_lines_above() -> None:
    assert fit("Z" + "\u0300" * 4, 24) == "Z\u0300\u0300\\u0300\\u0300"


def test_a_long_name_keeps_its_beginning_and_its_version() -> None:
    assert fit("studio.stabilise_and_grade@12", 20) == "studio.stabili…de@12"
    assert fit("フレーム" * 9, 9) == "フレー…ム"


def test_a_name_of_ten_million_letters_is_not_walked() -> None:
    name = "x" * 10_000_000
    assert len(fit(name, 24)) == len(quoted(name)) == 24


def test_a_quoted_name_cannot_end_its_quotes() -> None:
    assert quoted("a', failed: 'b") == r"'a\', failed: \'b'"
    assert quoted("a\\', failed") == r"'a\\\', failed'"


def test_words_break_at_spaces_and_what_is_too_long_is_cut() -> None:
    assert wrapped("failed: no more film in it", 12, 2) == ["failed: no", "more fil… it"]
    assert wrapped("x" * 40, 12, 2) == ["x" * 8 + "…xxx"]


# --- which part of a graph --------------------------------------------------------------------


def ladder(n: int) -> tuple[Sequence[Sequence[int]], int]:
    return [[at - 1] if at else [] for at in range(n)], n - 1


def take(inputs: Sequence[Sequence[int]], *targets: int, most: int = 60, **more: object) -> Graph:
    return nearest(
        targets,
        key=str,
        inputs=inputs.__getitem__,
        box=lambda n: Box(str(n)),
        totals={"": len(inputs)},
        most=most,
        **more,  # type: ignore[arg-type]  # rank and rest, as they come
    )


def test_of_a_large_graph_the_part_next_to_the_targets_is_drawn_and_the_rest_is_counted() -> None:
    inputs, top = ladder(1000)
    graph = take(inputs, top)
    assert [box.key for box in graph.boxes] == [str(n) for n in range(999, 939, -1)]
    assert graph.note == "Left out: 940 nodes."
    assert graph.boxes[-1].hidden == 1 and not any(box.hidden for box in graph.boxes[:-1])
    assert "Left out: 940 nodes." in sentences(graph) and "940" in "".join(
        ElementTree.fromstring(svg(graph)).itertext()
    )


def test_a_small_graph_is_drawn_whole_and_nothing_is_said_to_be_left_out() -> None:
    graph = take([[], [0], [0, 1, 1]], 2, 1)
    assert {box.key: box.inputs for box in graph.boxes} == {"2": ("0", "1"), "1": ("0",), "0": ()}
    assert graph.note == "" and not any(box.hidden for box in graph.boxes)


def test_what_has_the_lowest_rank_is_found_among_very_many_inputs() -> None:
    inputs = [*([] for _ in range(50_000)), list(range(50_000))]
    graph = take(inputs, 50_000, rank=lambda n: 0 if n in (40_000, 50_000) else 1)
    assert graph.boxes[1].key == "40000" and graph.boxes[0].hidden == 50_000 - 59


def test_a_dense_graph_has_few_arrows_and_says_how_many_it_leaves_out() -> None:
    inputs = [list(range(at)) for at in range(60)]
    graph = take(inputs, 59)
    assert sum(len(box.inputs) for box in graph.boxes) == 240
    assert graph.note == f"Left out: {60 * 59 // 2 - 240:,} arrows."


def test_what_nobody_counted_is_said_to_be_left_out_all_the_same() -> None:
    inputs, top = ladder(100)
    graph = nearest(
        [top],
        key=str,
        inputs=inputs.__getitem__,
        box=lambda n: Box(str(n), group="held" if n == top else ""),
        totals={"held": 1},
        rest="nodes that are not needed",
    )
    assert graph.note == "Left out: nodes that are not needed."


# --- layout -----------------------------------------------------------------------------------

graphs = st.integers(1, 24).flatmap(
    lambda n: st.tuples(
        *(st.lists(st.integers(0, max(0, at - 1)), max_size=4) if at else st.just([]) for at in range(n))
    )
)


@settings(max_examples=60)
@given(graphs)
def test_inputs_stand_above_what_uses_them_and_no_two_boxes_touch(inputs: Sequence[Sequence[int]]) -> None:
    graph = take(inputs, *range(len(inputs)))
    place = layout(graph, width=100, height=40)
    assert len(place.boxes) == len(inputs)
    for box in graph.boxes:
        x, y = place.boxes[box.key]
        assert 0 <= x <= place.width - 100 and 0 <= y <= place.height - 40
        assert all(place.boxes[one][1] + 40 < y for one in box.inputs)
    for (x, y), (other_x, other_y) in combinations(place.boxes.values(), 2):
        assert abs(x - other_x) >= 100 or abs(y - other_y) >= 40
    for x, y, _ in place.lanes:  # nor does an arrow run under a box
        assert not any(bx < x < bx + 100 and by == y for bx, by in place.boxes.values())


def test_a_wide_layer_is_broken_into_rows_that_fit_a_page() -> None:
    inputs = [*([] for _ in range(59)), list(range(59))]
    place = layout(take(inputs, 59), width=194, height=60)
    assert place.width < 1000
    assert len({y for _, y in place.boxes.values()}) == 16


def test_a_graph_that_goes_in_a_circle_is_refused() -> None:
    with pytest.raises(CycleError):
        svg(chain(Box("a", inputs=("b",)), Box("b", inputs=("a",))))


# --- colours ----------------------------------------------------------------------------------


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it, from 1 to 21."""

    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_text_has_the_contrast_to_be_read_whatever_is_around_the_picture() -> None:
    assert round(contrast("#ffffff", "#000000")) == 21 and round(contrast("#777777", "#ffffff"), 2) == 4.48
    assert set(STYLES) == set(get_args(Kind))
    for kind, style in STYLES.items():
        assert contrast(style.ink, style.ground) >= 4.5, kind
        assert contrast(INK, style.ground) >= 4.5, kind
        assert contrast(style.edge, PANEL) >= 3, kind
    assert contrast(INK, PANEL) >= 4.5 and contrast(LINE, PANEL) >= 4.5
    # Around it: what surrounds marks and pictures is drawn in the colours of the page, whatever they are.
    outside = re.sub(r"<span.*?</span>", "", html(Table(("a",), [(Mark("here", "x"),), ("y",)], "c", "m")))
    assert "color" not in outside and "background" not in outside


def test_the_page_can_be_read_in_both_colour_schemes() -> None:
    schemes = [dict(re.findall(r"--(\w+):(#\w{6})", part)) for part in STYLE.split("@media(prefers")]
    assert len(schemes) == 2 and "prefers-color-scheme:dark" in STYLE
    for colours in schemes:
        assert contrast(colours["ink"], colours["ground"]) >= 4.5
        assert contrast(colours["ink"], colours["soft"]) >= 4.5
        assert contrast(colours["line"], colours["ground"]) >= 3


# --- hostile names ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_makes_no_tag_in_html_and_no_element_in_svg(name: str) -> None:
    boxes = Box(name, name, name, f"from {quoted(name)}", "peer", hidden=3), Box("b", inputs=(name,))
    table = Table((name, "n"), [(name, 1), (Mark("here", name), 2)], name, name)
    graph = Graph(boxes, name, name)
    for text in (html(table, graph), page(name, [(name, [name, table, graph])])):
        reader = Reader(text)
        assert {tag for tag, _ in reader.tags} <= TAGS
        assert not [a for _, attributes in reader.tags for a in attributes if a.startswith("on") or a == "href"]
        assert not any(character in text for character in STRANGE if character != "\n")
        assert len(text) < 30_000
        [(alt, picture)] = pictures(text)
        assert not any(character in alt for character in STRANGE)
        assert {local(element) for element in picture.iter()} <= SHAPES
        assert len("".join(picture.itertext())) < 1500


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_ends_no_string_and_adds_no_line_in_mermaid_and_dot(name: str) -> None:
    graph = Graph((Box("a", name, name, name, inputs=("b",)), Box("b", name)), "A graph", name)
    lines = mermaid(graph).splitlines()
    assert [
        bool(re.fullmatch(r'  n\d\["[^"<>\[\]{}`;]*(?:#\d+;[^"<>\[\]{}`;]*)*"\]', line)) for line in lines[1:3]
    ] == [True] * 2
    assert lines[3] == "  n1 --> n2" and lines[4].startswith("  %% ") and len(lines) == 5
    lines = dot(graph).splitlines()
    assert [bool(re.fullmatch(r'  n\d \[label="(?:[^"\\]|\\.)*"\];', line)) for line in lines[2:4]] == [True] * 2
    assert lines[4] == "  n1 -> n2;" and lines[5].startswith("  // ") and lines[6:] == ["}"]
    assert all(line.isprintable() and len(line) < 1500 for line in lines)


# --- what is said -----------------------------------------------------------------------------


def test_the_picture_and_its_alt_say_the_state_of_every_node_in_words() -> None:
    graph = Graph(
        (
            Box("t", "total@1", "n=3", "missing: to be computed", "missing", ("l", "r")),
            Box("l", "left@1", "", "held: from 'alice'", "peer"),
            Box("r", "right@1", "", "held: computed here", "here", hidden=2),
        ),
        "Plan",
    )
    [(alt, picture)] = pictures(html(graph))
    assert alt == (
        "Plan. 1: right@1, held: computed here; made from 2 not drawn. 2: left@1, held: from 'alice'. "
        "3: total@1, n=3, missing: to be computed; made from 2, 1."
    )
    texts = ["".join(element.itertext()) for element in picture.iter() if local(element) == "text"]
    wanted = ["total@1", "n=3", "missing: to be computed", "left@1", "held: from 'alice'", "right@1"]
    assert sorted(texts) == sorted([*wanted, "2 inputs not drawn", "held: computed here"])


def test_a_long_table_is_cut_and_says_so() -> None:
    text = html(Table(("n",), [(n,) for n in range(1000)], more="nothing else"))
    assert text.count("<tr>") == 1 + 30 + 1 and "and 970 more; nothing else" in text


def test_a_column_in_which_no_row_says_anything_is_left_out() -> None:
    text = html(Table(("a", "b", "c"), [("x", "", 0), ("y", "", 1)], more="and more"))
    assert re.findall("<th .*?>(.*?)</th>", text) == ["a", "c"] and text.count("<td") == 2 * 2 + 1
    assert 'colspan="2"' in text and ">0</td>" in text  # nothing is something
    assert html(Table(("a", "b"), [])).count("<th ") == 2


def test_an_empty_graph_has_no_picture() -> None:
    assert html(Table(("a",), []), Graph(())) == html(Table(("a",), []))
    ElementTree.fromstring(svg(Graph(())))


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    text = page("alice", [("Origins", ["A sentence.", Table(("a",), [(1,)]), chain(Box("a"))])])
    policy = next(a["content"] for tag, a in Reader(text).tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'") and "script" not in text
    assert "A sentence." in Reader(text).text and len(pictures(text)) == 1
