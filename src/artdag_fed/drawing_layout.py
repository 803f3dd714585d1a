"""Where the boxes of a graph stand, and where its arrows run.

Rules: in layers, inputs above what uses them; a wide layer is broken into several rows, so that a picture grows
downwards, as pages do. An arrow passes the rows between its ends through a lane of its own, never under a box; those to
the same box share one. The same graph has the same layout.

>>> from artdag_fed.drawing_graph import Box, Graph
>>> place = layout(Graph((Box("b", inputs=("a",)), Box("a"))), width=100, height=40)
>>> place.boxes["a"][1] < place.boxes["b"][1], place.arrows
(True, [(62, 52, 62, 86)])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from artdag_fed.drawing_graph import Graph

__all__ = ["Layout", "layout"]

ROW = 4  # boxes beside each other: what a page or a notebook has room for
MARGIN, GAP, BETWEEN = 12, 22, 34  # around everything, beside a box, between two rows; in pixels
LANE = 14  # an arrow passing by, with its gap
SWEEPS = 8  # up and down: nothing moves much after that

Item = tuple[str, int]
"""A box (its key, -1), or a lane (the key of the box that it leads to, its row)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Whole pixels. boxes: the left upper corner by key. arrows: (x, y, x, y) from the lower edge of a row to the upper
    edge of the next; lanes: (x, y, y) through a row; heads: (x, y) where arrows end in a box."""

    width: int
    height: int
    boxes: Mapping[str, tuple[int, int]]
    arrows: Sequence[tuple[int, int, int, int]]
    lanes: Sequence[tuple[int, int, int]]
    heads: Sequence[tuple[int, int]]


def layout(graph: Graph, *, width: int, height: int) -> Layout:
    """Place boxes of one size. Raises `graphlib.CycleError` (a `ValueError`) where the graph goes round in a circle."""
    keys = {box.key for box in graph.boxes}
    inputs = {box.key: [one for one in dict.fromkeys(box.inputs) if one in keys] for box in graph.boxes}
    rows: list[list[Item]] = [[(key, -1) for key in row] for row in _rows(inputs)]
    row_of = {key: at for at, row in enumerate(rows) for key, _ in row}

    links: dict[tuple[Item, Item], None] = {}
    for key, sources in inputs.items():
        for source in sources:
            last: Item = (source, -1)
            for at in range(row_of[source] + 1, row_of[key]):
                lane = (key, at)
                if lane not in rows[at]:
                    rows[at].insert(len(rows[at]) // 2, lane)  # between those that go the same way
                links[last, lane] = None
                last = lane
            links[last, (key, -1)] = None

    sizes = {item: width + GAP if item[1] < 0 else LANE for row in rows for item in row}
    middle = _middles(rows, links, sizes)
    left = min((middle[item] - sizes[item] / 2 for item in middle), default=0) + GAP / 2 - MARGIN
    right = max((middle[item] + sizes[item] / 2 for item in middle), default=0) - GAP / 2 + MARGIN
    x = {item: round(at - left) for item, at in middle.items()}
    top = [MARGIN + at * (height + BETWEEN) for at in range(len(rows))]

    boxes = {key: (x[key, -1] - width // 2, top[at]) for key, at in row_of.items()}
    arrows = []
    for start, end in links:
        above = row_of[start[0]] if start[1] < 0 else start[1]
        arrows.append((x[start], top[above] + height, x[end], top[above + 1]))
    lanes = [(x[item], top[item[1]], top[item[1]] + height) for item in x if item[1] >= 0]
    heads = [(x[key, -1], top[row_of[key]]) for key, sources in inputs.items() if sources]
    tall = len(rows) * (height + BETWEEN) - BETWEEN + 2 * MARGIN if rows else 2 * MARGIN
    return Layout(round(right - left), tall, boxes, arrows, lanes, heads)


def _rows(inputs: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The keys in rows: layer by layer, in each as they are met from the targets down, each row about equally long."""
    sorter = TopologicalSorter(inputs)
    sorter.prepare()
    layer: dict[str, int] = {}
    depth = 0
    while sorter.is_active():
        ready = sorter.get_ready()
        layer.update(dict.fromkeys(ready, depth))
        sorter.done(*ready)
        depth += 1
    users: dict[str, list[str]] = {}
    for key, sources in inputs.items():
        for source in sources:
            users.setdefault(source, []).append(key)
    for key, several in users.items():  # what has no inputs stands right above the first that uses it
        if not inputs[key]:
            layer[key] = min(layer[user] for user in several) - 1

    met: dict[str, None] = {}
    stack = [key for key in reversed(list(inputs)) if key not in users]
    while stack:
        key = stack.pop()
        if key not in met:
            met[key] = None
            stack += reversed(inputs[key])
    layers: list[list[str]] = [[] for _ in range(depth)]
    for key in met:
        layers[layer[key]].append(key)
    rows = []
    for several in layers:
        parts = -(-len(several) // ROW)
        rows += [several[len(several) * at // parts : len(several) * (at + 1) // parts] for at in range(parts)]
    return rows


def _middles(
    rows: Sequence[list[Item]], links: Mapping[tuple[Item, Item], None], sizes: Mapping[Item, int]
) -> dict[Item, float]:
    """The x of each item's middle: near the items that it is linked to, in order, and none upon another."""
    above: dict[Item, list[Item]] = {}
    below: dict[Item, list[Item]] = {}
    for source, target in links:
        above.setdefault(target, []).append(source)
        below.setdefault(source, []).append(target)
    middle: dict[Item, float] = {}
    for row in rows:
        middle.update(_spread(row, [0.0] * len(row), sizes))
    for sweep in range(SWEEPS):
        up = sweep % 2 == 0  # the targets are fixed first: what they are made from gathers above them
        for row in reversed(rows) if up else rows:
            linked = below if up else above
            wish = {}
            for item in row:
                others = linked.get(item, ()) or (above if up else below).get(item, ())
                wish[item] = sum(middle[one] for one in others) / len(others) if others else middle[item]
            if sweep < SWEEPS - 2:
                row.sort(key=wish.__getitem__)
            middle.update(_spread(row, [wish[item] for item in row], sizes))
    return middle


def _spread(row: Sequence[Item], wishes: Sequence[float], sizes: Mapping[Item, int]) -> dict[Item, float]:
    """The places next to the wishes (least squares) that keep the order and the distances: neighbours that push each
    other become a block, and a block stands where its members wish on average."""
    offsets: list[float] = []
    at = 0.0
    for before, item in zip([None, *row], row, strict=False):
        at += 0 if before is None else (sizes[before] + sizes[item]) / 2
        offsets.append(at)
    blocks: list[tuple[float, int]] = []  # mean wish, members
    for wish, offset in zip(wishes, offsets, strict=True):
        mean, count = wish - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, members = blocks.pop()
            mean, count = (mean * count + other * members) / (count + members), count + members
        blocks.append((mean, count))
    means = [mean for mean, count in blocks for _ in range(count)]
    return {item: mean + offset for item, mean, offset in zip(row, means, offsets, strict=True)}
