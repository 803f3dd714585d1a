"""dag: ids that are the same everywhere, nodes that never change, graphs of any depth."""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import pickle
import sys
import timeit
from typing import Any

import pytest

from artdag_fed.dag import Dag, Node, node, parse_recipe, recipe_inputs, recipe_prefix
from artdag_fed.errors import CodecError, InvalidName

LONG = 100_000


def chain(length: int) -> Node:
    link = node("start@1")
    for step in range(1, length):
        link = node("step@1", link, n=step)
    return link


# --- identity -------------------------------------------------------------------------------


def test_one_and_its_four_lookalikes_are_five_params() -> None:
    assert len({node("op@1", x=x).cid for x in (1, 1.0, True, "1", b"1")}) == 5


def test_the_order_of_params_does_not_matter_and_the_order_of_inputs_does() -> None:
    a, b = node("a@1"), node("b@1")
    assert node("mix@1", a, b, x=1, y=2) == node("mix@1", a, b, y=2, x=1)
    assert list(node("mix@1", y=2, x=1).params) == ["x", "y"]
    assert node("mix@1", a, b) != node("mix@1", b, a)
    assert node("mix@1", a) != node("mix@1", a, a)
    assert node("mix@1", a, b).inputs == (a, b)


def test_a_param_is_never_taken_for_an_input_an_op_or_a_part() -> None:
    a = node("a@1")
    assert node("op@1", a) != node("op@1", x=a.cid)
    lookalikes = [
        node('op@1"\n\n{}'),
        node("op@1", x="\n\n{}"),
        node("op@1"),
        node("op@1\n" + a.cid + "\n{}"),
        node("op@1", a),
    ]
    assert len({n.cid for n in lookalikes}) == len(lookalikes)
    assert all(n.recipe.count(b"\n") == 3 for n in lookalikes)


def test_the_cid_is_the_hash_of_the_recipe_and_the_recipe_is_four_lines() -> None:
    a = node("a@1")
    made = node("blur@1", a, a, radius=0.5, name="x")
    assert made.cid == hashlib.sha256(made.recipe).hexdigest()
    assert made.recipe == (
        f'artdag-fed node v1\n"blur@1"\n{a.cid} {a.cid}\n{{"name":"x","radius":["f","3fe0000000000000"]}}'.encode()
    )


def test_nodes_are_equal_and_hash_alike_where_their_cids_are_equal() -> None:
    assert node("a@1", x=[1]) == node("a@1", x=[1])
    assert len({node("a@1"), node("a@1"), node("b@1")}) == 2
    assert node("a@1") != node("a@1").cid
    assert node("a@1") != "a@1"


def test_any_name_can_be_a_param() -> None:
    made = node("x@1", op=1, self=2, inputs=3, cid=4, params=5, recipe=6, cls=7, name=8)
    assert dict(made.params) == {
        "cid": 4, "cls": 7, "inputs": 3, "name": 8, "op": 1, "params": 5, "recipe": 6, "self": 2
    }  # fmt: skip
    assert node("x@1", **{"": 1, "a b\n": 2}).params["a b\n"] == 2


@pytest.mark.parametrize("op", ["blur", "blur@1", " ", "\n", '"', "\x00", "é", "🎨", "x" * 10_000])
def test_any_text_that_is_not_empty_is_an_op(op: str) -> None:
    made = node(op, x=1)
    assert made.op == op
    assert parse_recipe(made.recipe) == (op, (), {"x": 1})
    assert made.recipe.startswith(recipe_prefix(op))
    assert not made.recipe.startswith(recipe_prefix(op + "x"))
    assert not node(op + "x").recipe.startswith(recipe_prefix(op))


# --- refusals -------------------------------------------------------------------------------


class Word(str):
    __slots__ = ()


@pytest.mark.parametrize("make", [node, recipe_prefix])
def test_what_cannot_be_an_op_is_refused(make: Any) -> None:
    for op in (None, 1, b"a", node, node("a@1"), Word("a")):
        with pytest.raises(TypeError, match="an op is named by exactly a str"):
            make(op)
    for text in ("", "\ud800", "a\udfff"):
        with pytest.raises(InvalidName, match="the op name"):
            make(text)


def test_an_input_that_is_no_node_is_refused_by_position_with_the_way_out() -> None:
    a = node("a@1")
    with pytest.raises(TypeError, match="input 1 must be a Node, not int: pass plain values by keyword"):
        node("b@1", a, 3)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(TypeError, match="input 1 is a list of nodes: unpack it"):
        node("b@1", a, [a, a])  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(TypeError, match="input 0 must be a Node, not str"):
        node("b@1", a.cid)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(TypeError, match="input 0 must be a Node, not list"):
        node("b@1", [])  # type: ignore[arg-type]  # the mistake under test


def test_a_param_without_a_canonical_form_is_refused_by_its_place() -> None:
    with pytest.raises(CodecError, match=r"^params\['size'\]\[0\] is of type set"):
        node("a@1", size=[{1}])
    with pytest.raises(CodecError, match=r"^params\['x'\] is nan"):
        node("a@1", x=float("nan"))
    with pytest.raises(CodecError, match=r"^params\['x'\] holds a lone surrogate"):
        node("é@1", x="\ud800")
    with pytest.raises(CodecError, match=r"^params has a key of type Word"):
        node("a@1", **{Word("x"): 1})
    with pytest.raises(TypeError, match=r"params\['mask'\] is a Node: pass nodes by position"):
        node("a@1", mask=node("b@1"))


def test_a_node_is_made_by_node_alone() -> None:
    with pytest.raises(TypeError, match="made by node"):
        Node()
    with pytest.raises(TypeError, match="made by node"):
        Node("a@1")
    for base in (Node, Dag):
        with pytest.raises(TypeError, match="cannot be subclassed"):
            type("Sub", (base,), {})


# --- never changes --------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [node("a@1", x=1), Dag(node("a@1"))])
def test_nothing_can_be_set_or_deleted(thing: Any) -> None:
    for name in ("cid", "op", "inputs", "params", "recipe", "targets", "_nodes", "other", "__class__"):
        with pytest.raises(AttributeError, match="cannot be changed"):
            setattr(thing, name, 1)
        with pytest.raises(AttributeError, match="cannot be changed"):
            delattr(thing, name)
    assert not hasattr(thing, "__dict__")


def test_params_are_read_only_and_containers_in_them_are_fresh() -> None:
    made = node("a@1", size=[1, 2], at=(1, {"k": b"v"}), x=1.5)
    with pytest.raises(TypeError):
        made.params["x"] = 2  # type: ignore[index]  # the mistake under test
    made.params["size"].append(3)
    made.params["at"][1]["k"] = None
    assert dict(made.params) == {"at": (1, {"k": b"v"}), "size": [1, 2], "x": 1.5}


def test_a_container_changed_after_the_call_does_not_change_the_node() -> None:
    size = [1, [2]]
    made = node("a@1", size=size)
    cid = made.cid
    size[1].append(3)  # type: ignore[attr-defined]  # a list of mixed things
    assert made.params["size"] == [1, [2]]
    assert made.cid == cid == node("a@1", size=[1, [2]]).cid


def test_copies_are_the_node_and_the_dag_itself() -> None:
    a = node("a@1", x=[1])
    for thing in (a, Dag(a)):
        assert copy.copy(thing) is thing
        assert copy.deepcopy(thing) is thing


# --- repr -----------------------------------------------------------------------------------


def test_a_repr_is_one_short_line_whatever_the_op() -> None:
    a = node("a@1")
    made = node("blur@1", a, x=1, y=2)
    assert repr(made) == f"<Node blur@1 {made.cid[:8]}… 1 input, 2 params>"
    assert repr(Dag(made, a, a)) == "<Dag 2 nodes, 3 targets>"
    for hostile in ("\n" * 1000, "\x1b[31m", "\u202egpj", "x" * 1000, "a b> <Node c"):
        text = repr(node(hostile))
        assert text.removeprefix("<Node ").split("…")[0].isascii()
        assert text.isprintable()
        assert len(text) < 100
        assert "'" in text


# --- recipes --------------------------------------------------------------------------------


def test_parse_recipe_gives_back_what_node_was_given() -> None:
    a, b = node("a@1"), node("b@1")
    params = {"big": 2**100, "f": -0.0, "l": [1, (2, b"x")], "n": None, "s": "é\n", "t": True}
    op, inputs, read = parse_recipe(node("mix@1", a, b, a, **params).recipe)
    assert (op, inputs, repr(read)) == ("mix@1", (a.cid, b.cid, a.cid), repr(params))


def test_parse_recipe_takes_known_inputs_for_those_alone() -> None:
    a, b = node("a@1"), node("b@1")
    recipe = node("mix@1", a, b).recipe
    assert parse_recipe(recipe, (a.cid, b.cid)) == parse_recipe(recipe)
    for others in ((), (a.cid,), (b.cid, a.cid)):
        with pytest.raises(CodecError, match="third line"):
            parse_recipe(recipe, others)


def test_any_single_byte_changed_is_refused_or_means_something_else() -> None:
    made = node("mix@1", node("a@1"), l=[1, (b"x", 0.5)], s="é\n", n=None, i=2**64)
    original = parse_recipe(made.recipe)
    for at in range(len(made.recipe)):
        for byte in (0x00, 0x0A, 0x20, 0x22, 0x2D, 0x30, 0x5B, 0x66, 0x80, 0xFF):
            changed = made.recipe[:at] + bytes([byte]) + made.recipe[at + 1 :]
            if changed != made.recipe:
                try:
                    assert repr(parse_recipe(changed)) != repr(original)
                except CodecError as refused:
                    assert len(str(refused)) < 300
                    assert str(refused).isprintable()


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_recipe_that_is_cut_or_has_something_after_it_is_refused(cut: int) -> None:
    recipe = node("mix@1", node("a@1"), x=[1]).recipe
    for changed in (recipe[:-cut], recipe[cut:], recipe + b" " * cut, b"\n" * cut + recipe):
        with pytest.raises(CodecError):
            parse_recipe(changed)


def test_a_recipe_that_nests_too_deep_is_refused_without_a_recursion_error() -> None:
    for levels in (64, 5_000, 200_000):
        text = '{"x":' + '["l",' * levels + "1" + "]" * levels + "}"
        with pytest.raises(CodecError):
            parse_recipe(recipe_prefix("op@1") + b"\n" + text.encode())


def test_recipe_inputs_gives_the_input_cids_and_nothing_for_other_bytes() -> None:
    a, b = node("a@1"), node("b@1")
    recipe = node("mix@1", b, a, b, x=1).recipe
    assert recipe_inputs(recipe) == (b.cid, a.cid, b.cid)
    assert recipe_inputs(a.recipe) == ()
    others = [
        b"",
        b"\n\n\n",
        b"\xff" * 100,
        recipe + b"\n",
        recipe.replace(b"v1", b"v2"),
        recipe.replace(b" ", b"  "),
        recipe.replace(a.cid.encode(), a.cid[:-1].encode()),
        recipe.replace(a.cid.encode(), a.cid.upper().encode()),
        recipe.replace(a.cid.encode(), b"../" + a.cid[3:].encode()),
        recipe.replace(a.cid.encode(), "é".encode() * 32),
    ]
    assert [recipe_inputs(other) for other in others] == [()] * len(others)


# --- graphs ---------------------------------------------------------------------------------


def test_a_dag_iterates_inputs_first_each_node_once_depth_first_in_the_order_given() -> None:
    a, b, c = node("a"), node("b"), node("c")
    ab, bc = node("ab", a, b), node("bc", b, c)
    top, side = node("top", ab, bc, ab), node("side", c)
    dag = Dag(top, side)
    assert [n.op for n in dag] == ["a", "b", "ab", "c", "bc", "top", "side"]
    assert [n.op for n in Dag(side, top)] == ["c", "side", "a", "b", "ab", "bc", "top"]
    assert len(dag) == 7
    assert dag.targets == (top, side)


def test_a_random_dag_is_in_the_order_of_a_plain_recursive_walk() -> None:
    import random

    rng = random.Random(7)
    nodes = [node("leaf", n=0)]
    for n in range(1, 300):
        nodes.append(node("n", *rng.choices(nodes, k=rng.randrange(5)), n=n))
    targets = rng.choices(nodes, k=20)
    order: dict[str, Node] = {}

    def walk(one: Node) -> None:
        if one.cid not in order:
            for source in one.inputs:
                walk(source)
            order[one.cid] = one

    for target in targets:
        walk(target)
    assert list(Dag(*targets)) == list(order.values())


def test_equal_nodes_made_twice_are_one_node_of_the_dag() -> None:
    dag = Dag(node("mix", node("a"), node("b")), node("mix", node("a"), node("b")), node("a"))
    assert [n.op for n in dag] == ["a", "b", "mix"]
    assert len(dag.targets) == 3
    first, second = node("a"), node("a")
    assert Dag(first, second)[first.cid] is first


def test_a_dag_knows_its_nodes_by_node_and_by_cid() -> None:
    a, other = node("a"), node("other")
    dag = Dag(node("b", a))
    assert a in dag
    assert a.cid in dag
    assert dag[a.cid] is a
    assert other not in dag
    assert other.cid not in dag
    nothings: tuple[Any, ...] = (None, 1, 10**5000, [], b"x", {}, b"x" * 64)
    for nothing in nothings:
        assert nothing not in dag
        with pytest.raises(KeyError, match="is no cid of a node in this Dag"):
            dag[nothing]
    with pytest.raises(KeyError, match=other.cid[:20]):
        dag[other.cid]


def test_dags_are_equal_where_their_targets_are_in_order() -> None:
    a, b = node("a"), node("b")
    assert Dag(a, b) == Dag(node("a"), node("b"))
    assert hash(Dag(a, b)) == hash(Dag(node("a"), node("b")))
    assert Dag(a, b) != Dag(b, a)
    assert Dag(a) != Dag(a, a)
    assert Dag(a) != a


def test_a_dag_of_no_targets_is_empty() -> None:
    assert list(Dag()) == []
    assert Dag().targets == ()
    assert Dag() == Dag()


def test_a_target_that_is_no_node_is_refused_by_position() -> None:
    a = node("a")
    with pytest.raises(TypeError, match=r"target 1 must be a Node, not list; for a list: Dag\(\*nodes\)"):
        Dag(a, [a])  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nodes_and_dags_survive_pickling(protocol: int) -> None:
    a = node("a@1", x=(1, [b"2"], -0.0), self=1, op=None)
    top = node("b@1", a, node("c@1"), a)
    dag = Dag(top, a, top)
    read, read_top = pickle.loads(pickle.dumps((dag, top), protocol))
    assert (read, read_top) == (dag, top)
    assert read.targets == (top, a, top)
    assert [n.recipe for n in read] == [n.recipe for n in dag]
    assert read.targets[0].inputs[0] is read.targets[1]


def test_a_chain_of_a_hundred_thousand_is_built_walked_pickled_and_freed_without_recursion() -> None:
    top = chain(LONG)
    dag = Dag(top)
    assert len(dag) == LONG
    assert next(iter(dag)).op == "start@1"
    read = pickle.loads(pickle.dumps(dag))
    assert read == dag
    assert read.targets[0].inputs[0] == top.inputs[0]
    repr(top), hash(dag)
    copy.deepcopy(top)
    del read, dag, top
    gc.collect()
    # Short chains of other tests may live in fixtures and tracebacks; this one is longer than all of them together.
    assert sum(type(thing) is Node for thing in gc.get_objects()) < LONG


def test_a_node_of_many_inputs_and_a_ladder_of_many_paths_are_walked_once_each() -> None:
    leaves = [node("leaf", n=n) for n in range(2000)]
    assert len(Dag(node("sum", *leaves, *leaves))) == 2001
    rung = node("rung")
    for _ in range(200):  # 2**200 paths
        rung = node("rung", rung, rung)
    assert len(Dag(rung)) == 201


@pytest.mark.skipif("coverage" in sys.modules, reason="counting lines slows our Python, not the C that it is held to")
def test_making_a_node_costs_no_more_than_hashing_its_json() -> None:
    a, b = node("a@1"), node("b@1")

    def plain() -> str:
        content = {"op": "blur@1", "params": {"radius": 3, "name": "x", "flag": True}, "inputs": [a.cid, b.cid]}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def ours() -> Node:
        return node("blur@1", a, b, radius=3, name="x", flag=True)

    # The best of several short turns, taken alternately, so that what else the machine does falls on both.
    turns = [(timeit.timeit(plain, number=1000), timeit.timeit(ours, number=1000)) for _ in range(8)]
    assert min(own for _, own in turns) <= 1.2 * min(theirs for theirs, _ in turns)
