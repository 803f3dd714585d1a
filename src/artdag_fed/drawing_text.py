"""A graph as text: sentences, and the languages of two programs that draw.

Rules: names are shortened and escaped for each language, whatever they are made of; what a graph leaves out is said.
Nodes get numbers for names, so no name of anybody's is part of a program.

>>> from artdag_fed.drawing_graph import Box, Graph
>>> graph = Graph((Box("x", 'say "hi"', words="missing", inputs=("y",)), Box("y", "load", words="from 'alice'")))
>>> print(sentences(graph))
Graph. 1: load, from 'alice'. 2: say "hi", missing; made from 1.
>>> print(mermaid(graph))
flowchart TD
  n1["load, from #39;alice#39;"]
  n2["say #34;hi#34;, missing"]
  n1 --> n2
>>> print(dot(graph))
digraph {
  node [shape=box];
  n1 [label="load\\nfrom 'alice'"];
  n2 [label="say \\"hi\\"\\nmissing"];
  n1 -> n2;
}
"""

from __future__ import annotations

import re
from collections.abc import Callable

from artdag_fed.drawing_graph import Box, Graph
from artdag_fed.drawing_words import fit

__all__ = ["dot", "mermaid", "sentences"]

TITLE, DETAIL, WORDS, NOTE = 32, 28, 44, 300  # columns: with sixty boxes, the text of a picture stays a page or two
HARMFUL = re.compile(r"[^\w ,.:=@/+()…-]")
"""What is not, in a quoted label of Mermaid, becomes an entity: Mermaid puts labels into a page as HTML."""


def sentences(graph: Graph) -> str:
    """All that the picture says, for those who cannot see it."""
    said = [f"{fit(graph.name, 3 * WORDS)}."]
    for number, box, inputs in _numbered(graph):
        made = f"; made from {', '.join(map(str, inputs))}" if inputs else ""
        made += f"{' and' if inputs else '; made from'} {box.hidden:,} not drawn" if box.hidden else ""
        said.append(f"{number}: {', '.join(_parts(box))}{made}.")
    return " ".join([*said, *([fit(graph.note, NOTE)] if graph.note else [])])


def mermaid(graph: Graph) -> str:
    """A flowchart in Mermaid's language, as Markdown on many sites draws it."""

    def label(box: Box) -> str:
        text = ", ".join([*_parts(box), *filter(None, [box.unseen])])
        return HARMFUL.sub(lambda found: f"#{ord(found[0])};", text)

    return "\n".join(["flowchart TD", *_program(graph, '  {}["{}"]', "  {} --> {}", label, "  %% {}")])


def dot(graph: Graph) -> str:
    """A digraph in Graphviz's language."""

    def label(box: Box) -> str:
        lines = [*_parts(box), *filter(None, [box.unseen])]
        escaped = [line.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;") for line in lines]
        return "\\n".join(escaped)

    lines = _program(graph, '  {} [label="{}"];', "  {} -> {};", label, "  // {}")
    return "\n".join(["digraph {", "  node [shape=box];", *lines, "}"])


def _program(graph: Graph, node: str, arrow: str, label: Callable[[Box], str], comment: str) -> list[str]:
    numbered = _numbered(graph)
    lines = [node.format(f"n{number}", label(box)) for number, box, _ in numbered]
    lines += [arrow.format(f"n{source}", f"n{number}") for number, _, inputs in numbered for source in inputs]
    return [*lines, *([comment.format(fit(graph.note, NOTE))] if graph.note else [])]


def _numbered(graph: Graph) -> list[tuple[int, Box, list[int]]]:
    """Each box with its number and the numbers of its inputs: the last first, so that inputs mostly come before."""
    number = {box.key: at for at, box in enumerate(reversed(graph.boxes), 1)}
    return [
        (number[box.key], box, [number[one] for one in dict.fromkeys(box.inputs) if one in number])
        for box in reversed(graph.boxes)
    ]


def _parts(box: Box) -> list[str]:
    parts = (fit(box.title, TITLE), fit(box.detail, DETAIL), fit(box.words, WORDS))
    return [part for part in parts if part]
