"""Why a result is here, and why it is a miss: the true cause is named, wherever in the DAG it is.

Rules: a DAG is run, then one thing in it is changed, by seed; who changed it knows what has to be said.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest

from artdag_fed import (
    Dag,
    Federation,
    MemoryCache,
    Node,
    Record,
    export,
    forget,
    import_,
    node,
    run,
)
from artdag_fed.explanation import Explanation, explain

OPS = ("studio.load@1", "studio.blur@1", "studio.mix@2", "plain")


def runner(op: str, inputs: tuple[Any, ...], params: Any) -> Any:
    return [op, len(inputs), sorted(params)]


# --- one edit, anywhere -----------------------------------------------------------------------------


@dataclass
class Row:
    """A node to be made: its op, the numbers of its inputs, its params."""

    op: str
    inputs: list[int]
    params: dict[str, Any]


def rows(chance: random.Random, count: int) -> list[Row]:
    """A DAG in which the last node rests on all others, and ops and params occur again and again."""
    made: list[Row] = []
    for at in range(count):
        known = min(at, chance.randint(0, 3))
        inputs = [chance.randrange(max(0, at - 6), at) for _ in range(known)] if at != 3 else [0, 1]
        params: dict[str, Any] = {"n": at}
        if chance.random() < 0.7:
            params["radius"] = chance.choice([1, 1.0, True, "1", 3])
        if chance.random() < 0.5:
            params["table"] = [1, {"x": (1, 2, [at])}]
        made.append(Row(chance.choice(OPS), inputs, params))
    used = {i for row in made for i in row.inputs}
    made.append(Row("top@1", [i for i in range(count) if i not in used], {}))
    return made


def built(all_rows: list[Row]) -> list[Node]:
    made: list[Node] = []
    for row in all_rows:
        made.append(node(row.op, *[made[i] for i in row.inputs], **row.params))
    return made


Edit = Callable[[random.Random, list[Row], int], "str | None"]
"""Changes a row; what has to be said of it, or None where this row cannot be changed so."""


def edit_param(chance: random.Random, all_rows: list[Row], at: int) -> str | None:
    params = all_rows[at].params
    if "n" not in params:
        return None
    which = chance.choice(["changed", "typed", "nested", "new", "gone"])
    if which == "typed" and type(params.get("radius")) is int:
        params["radius"] = float(params["radius"])
        return f"radius {int(params['radius'])} -> {params['radius']}"
    if which == "nested" and "table" in params:
        params["table"] = [1, {"x": (1, 2, [-1])}]
        return f"table[1]['x'][2][0] {at} -> -1"
    if which == "new":
        params["sigma"] = "é"
        return "sigma is new: '\\xe9'"
    if which == "gone":
        del params["n"]
        return f"n is gone: it was {at}"
    params["n"] = 1000
    return f"n {at} -> 1000"


def edit_op(chance: random.Random, all_rows: list[Row], at: int) -> str | None:
    was, all_rows[at].op = all_rows[at].op, "studio.new@1"
    return f"its op is studio.new@1, held is {was}"


def edit_version(chance: random.Random, all_rows: list[Row], at: int) -> str | None:
    was = all_rows[at].op
    now = all_rows[at].op = was.partition("@")[0] + "@7"
    return f"its op is {now}, held is {was}"


def edit_input(chance: random.Random, all_rows: list[Row], at: int) -> str | None:
    inputs = all_rows[at].inputs
    which = chance.choice(["other", "more", "less"])
    others = [i for i in range(at) if i not in inputs]
    if which != "less" and others:
        other = chance.choice(others)
        if which == "more":
            inputs.append(other)
            return f"input {len(inputs) - 1} is new: "
        if inputs:
            place = chance.randrange(len(inputs))
            inputs[place] = other
            return f"input {place}"  # of what is in that place, anything may be said that is true
    if inputs:
        inputs.pop()
        return f"input {len(inputs)} is gone: "
    return None


def edit_order(chance: random.Random, all_rows: list[Row], at: int) -> str | None:
    inputs = all_rows[at].inputs
    if len(set(inputs)) < 2:
        return None
    before = list(inputs)
    while inputs == before:
        chance.shuffle(inputs)
    return "the same inputs in another order"


def edit_depth(chance: random.Random, all_rows: list[Row], at: int) -> str | None:
    """A step between a node and one of its inputs, or one fewer."""
    inputs = all_rows[at].inputs
    if not inputs:
        return None
    place = chance.randrange(len(inputs))
    below = all_rows[inputs[place]]
    if chance.random() < 0.5 and below.inputs:
        gone = inputs[place]
        inputs[place] = below.inputs[0]
        return f"the step {below.op} on top of {all_rows[all_rows[gone].inputs[0]].op} is gone"
    all_rows.append(Row("studio.grade@1", [inputs[place]], {"n": 1}))  # moved to its place by who builds
    inputs[place] = len(all_rows) - 1
    return f"studio.grade@1 is a new step on top of {below.op}"


EDITS: dict[str, Edit] = {
    "param": edit_param,
    "op": edit_op,
    "version": edit_version,
    "input": edit_input,
    "order": edit_order,
    "depth": edit_depth,
}


def built_in_any_order(all_rows: list[Row], target: int) -> dict[int, Node]:
    made: dict[int, Node] = {}
    while target not in made:
        for at, row in enumerate(all_rows):
            if at not in made and all(i in made for i in row.inputs):
                made[at] = node(row.op, *[made[i] for i in row.inputs], **row.params)
    return made


def at_path(target: Node, path: tuple[int, ...]) -> Node:
    for position in path:
        target = target.inputs[position]
    return target


@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("seed", range(34))  # 204 in all
def test_a_single_edit_anywhere_in_a_dag_is_named_where_it_is(kind: str, seed: int) -> None:
    chance = random.Random(f"{kind} {seed}")
    count = chance.randint(5, 40)
    all_rows = rows(chance, count)
    before = built(all_rows)
    fed = run(Federation(), Dag(before[-1]), runner).federation
    edited, said = next(
        (at, said) for at in chance.sample(range(count), count) if (said := EDITS[kind](chance, all_rows, at))
    )
    after = built_in_any_order(all_rows, count)
    target = after[count]
    found = explain(fed, target)
    assert not found.held and found.relative == before[-1].cid, str(found)
    [difference] = found.differences
    where = at_path(target, difference.path)
    if kind in ("input", "depth") and not said.endswith(": "):  # named at the input that stands in another's place
        assert after[edited] in (where, *(at_path(target, difference.path[:n]) for n in range(len(difference.path))))
    else:
        assert where == after[edited] and difference.wanted == after[edited].cid
        assert difference.held == before[edited].cid
    assert said in str(difference), str(found)


# --- what is missing ----------------------------------------------------------------------------------


def chain(length: int, radius: int = 3) -> Node:
    made = node("load@1", path="a.png", radius=radius)
    for n in range(length):
        made = node("blur@1", made, n=n)
    return made


def test_the_cause_is_named_two_thousand_steps_down(fed: Federation) -> None:
    run(fed, chain(2000), runner)
    found = explain(fed, chain(2000, radius=4))
    assert found.missing == (0,) and found.relative == chain(2000).cid
    [difference] = found.differences
    assert difference.path == (0,) * 2000 and difference.what == "radius 3 -> 4"
    assert str(found).endswith("input 0 of input 0 of input 0 of ... differs: radius 3 -> 4 (2000 steps down)")


def test_of_several_relatives_the_one_that_differs_least_is_named(fed: Federation) -> None:
    load = node("load@1", path="a")
    run(fed, Dag(*(node("blur@1", load, radius=r, mode=m) for r, m in ((1, "a"), (2, "b"), (3, "c")))), runner)
    found = explain(fed, node("blur@1", load, radius=9, mode="b"))
    assert [d.what for d in found.differences] == ["radius 2 -> 9"] and found.missing == ()


def test_the_cause_is_named_where_what_lies_between_is_no_longer_held(fed: Federation) -> None:
    top = chain(5)
    run(fed, top, runner)
    between = [n.cid for n in Dag(top) if n.op == "blur@1" and n != top]
    forget(fed, between)
    [difference] = explain(fed, chain(5, radius=4)).differences
    assert difference.path == (0,) * 5 and difference.what == "radius 3 -> 4"


def test_an_input_whose_recipe_is_not_held_is_said_to_be_unknown(fed: Federation) -> None:
    top = chain(1)
    run(fed, top, runner)
    forget(fed, [i.cid for i in top.inputs])
    [difference] = explain(fed, chain(1, radius=4)).differences
    assert difference.kind == "unknown" and "whose recipe is not held" in str(difference)


def test_two_changes_are_two_differences_the_nearer_first(fed: Federation) -> None:
    run(fed, node("mix@1", chain(2), node("load@1", path="b"), weight=1), runner)
    wanted = node("mix@1", chain(2, radius=4), node("load@2", path="b"), weight=2)
    found = explain(fed, wanted)
    assert list(map(str, found.differences)) == [
        "weight 1 -> 2",
        "input 1 differs: its op is load@2, held is load@1",
        "input 0 of input 0 of input 0 differs: radius 3 -> 4 (3 steps down)",
    ]


@pytest.mark.parametrize("edit", ["param", "inserted"])
def test_the_relative_is_found_among_many_that_look_more_alike_from_above(fed: Federation, edit: str) -> None:
    def top(bottom: Node) -> Node:
        return node("mix@1", node("left@1", bottom), node("right@1", bottom))

    old = node("load@1", path="a", radius=3)
    run(fed, Dag(top(old), node("left@1", node("load@1", path="a", radius=5))), runner)
    for n in range(80):  # newer, and of the same op and params
        run(fed, node("mix@1", node("scan@1", n=n), node("scan@1", n=-n)), runner)
    new = node("load@1", path="a", radius=4) if edit == "param" else node("grade@1", old)
    found = explain(fed, top(new))
    assert found.relative == top(old).cid and [d.kind for d in found.differences] == [edit]


def test_one_input_more_or_less_at_any_place_is_one_difference(fed: Federation) -> None:
    a, b, c, x = (node("load@1", path=path) for path in "abcx")
    run(fed, node("mix@1", a, b, c), runner)
    for inputs, said in (
        ((x, a, b, c), "input 0 is new: load@1(path='x')"),
        ((a, b, x, c), "input 2 is new: load@1(path='x')"),
        ((b, c), f"input 0 is gone: it was {a.cid[:12]}"),
        ((a, c), f"input 1 is gone: it was {b.cid[:12]}"),
    ):
        [difference] = explain(fed, node("mix@1", *inputs)).differences
        assert (difference.kind, difference.path, difference.what) == ("input", (), said)


def test_another_step_in_the_place_of_an_input_is_one_difference_that_names_both(fed: Federation) -> None:
    run(fed, node("blur@1", node("load@1", path="a"), radius=1), runner)
    [difference] = explain(fed, node("blur@1", node("scan@1", dpi=300), radius=1)).differences
    assert difference.kind == "input" and difference.path == (0,)
    assert str(difference) == "input 0 differs: it is scan@1(dpi=300), held is load@1(path='a')"


def test_where_nothing_is_like_it_that_is_said(fed: Federation) -> None:
    run(fed, node("load@1", path="a"), runner)
    found = explain(fed, node("sharpen@1", node("scan@1", dpi=300), node("scan@1", dpi=600)))
    assert (found.relative, found.differences, found.missing) == (None, (), (0, 1))
    assert str(found).splitlines()[1:] == ["  nothing that is held is like it"]
    assert "so are its inputs 0, 1" in str(found)


def test_a_new_step_on_top_of_what_is_held_is_said_to_be_one(fed: Federation) -> None:
    top = chain(2)
    run(fed, top, runner)
    found = explain(fed, node("sharpen@1", top))
    assert found.relative == top.cid and [d.kind for d in found.differences] == ["inserted"]


def test_what_peers_sent_as_recipes_does_no_harm(fed: Federation) -> None:
    def everyone(peer: str) -> bool:
        return True

    recipes = [b"", b"\n\n\n", b"artdag-fed node v1\n1\n\n{}", b'artdag-fed node v1\n"blur@1"\nxyz\n[', b"\xff" * 100]
    records = [Record(sha256(recipe).hexdigest(), 1, "alice", recipe=recipe) for recipe in recipes]
    fed = import_(fed, records, everyone)
    assert len(fed) == len(records)
    assert explain(fed, chain(2)).relative is None


# --- what is held -------------------------------------------------------------------------------------


def test_a_held_result_is_explained_by_its_peer_and_whom_it_rests_on(fed: Federation) -> None:
    top = chain(2)
    alice = run(Federation(), top.inputs[0], runner).federation
    bob = import_(Federation(), export(alice, "alice"), {"alice"}.__contains__)
    run(bob, top, runner)
    fed = import_(fed, export(bob, "bob"), {"bob"}.__contains__)
    found = explain(fed, top)
    assert (found.held, found.peer, found.lineage, found.stale) == (True, "bob", frozenset({"alice"}), ())
    assert str(found) == f"blur@1 {top.cid[:12]} is held: it came from 'bob'\n  it rests on 'alice'"
    run(fed, top, runner, refresh=True)
    assert str(explain(fed, top)) == f"blur@1 {top.cid[:12]} is held: it was computed here"


def test_what_was_made_from_other_inputs_than_are_held_now_is_stale_and_named_at_any_depth(fed: Federation) -> None:
    top = chain(4)
    run(fed, top, runner)
    assert explain(fed, top).stale == ()
    bottom = top.inputs[0].inputs[0].inputs[0]
    run(fed, bottom.inputs[0], lambda *_: "another", refresh=True)
    found = explain(fed, top)
    assert found.stale == (bottom.cid,)
    assert f"{bottom.cid[:12]}, which it rests on, was made from other inputs than are held now" in str(found)
    assert "  it was made from other inputs" in str(explain(fed, bottom))
    forget(fed, [bottom.inputs[0].cid])  # nobody knows any more
    assert explain(fed, top).stale == ()


def test_explaining_reads_no_result_and_writes_nothing(fed: Federation) -> None:
    class Blind(MemoryCache):
        def load(self, cids: Any, observe: Any = None) -> Any:
            raise AssertionError("a result was read")

        def commit(self, changes: Any) -> Any:
            if not self.writing:
                raise AssertionError("something was written")
            return super().commit(changes)

        def __getitem__(self, cid: str) -> Any:
            raise AssertionError("a result was read")

        writing = True

    cache = Blind()
    for r in export(run(fed, chain(3), runner).federation, "alice"):
        import_(Federation(cache), [r], {"alice"}.__contains__)
    cache.writing = False
    assert explain(Federation(cache), chain(3)).peer == "alice"
    assert explain(Federation(cache), chain(3, radius=5)).differences


def test_what_is_no_node_or_no_instance_is_a_type_error(fed: Federation) -> None:
    with pytest.raises(TypeError, match="node must be a Node, not Dag: explain one target"):
        explain(fed, Dag(chain(1)))  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match="fed must be a Federation"):
        explain({}, chain(1))  # type: ignore[arg-type]  # wrong on purpose
    assert isinstance(explain(fed, chain(1)), Explanation)
