"""Ops: what a call makes a param and what an input, what is refused, and that the function gets it all back.

Rules: what is built is run, since the two ways have to fit. Ops that travel to another process are in `ops_module`.
"""

from __future__ import annotations

import hashlib
import inspect
import linecache
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import Event, Federation, InvalidName, Node, RunError, node, run
from artdag_fed.ops import Op, Ops
from tests import ops_module

A, B, C = node("a@1"), node("b@1"), node("c@1")


def made(op: Op, *args: Any, **kwargs: Any) -> tuple[tuple[Node, ...], dict[str, Any]]:
    built = op(*args, **kwargs)
    assert built.op == op.op
    return built.inputs, dict(built.params)


def everything(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


@pytest.fixture
def ops() -> Ops:
    ops = Ops()
    for name in "abc":
        ops.op(name=name)(lambda name=name: name.upper())
    return ops


def value(ops: Ops, target: Node) -> Any:
    """What the target gives, `a`, `b` and `c` of the ops being "A", "B" and "C"."""
    inputs = tuple(ops(i.op, (), {"name": i.op[0]}) for i in target.inputs)
    return ops(target.op, inputs, target.params)


# --- from a call to a node, and back --------------------------------------------------------------


def test_values_are_params_by_name_with_defaults_and_nodes_are_inputs_in_order(ops: Ops) -> None:
    @ops.op
    def blend(one: Any, two: Any, amount: float = 0.5, mode: str = "add") -> Any:
        return one, two, amount, mode

    assert made(blend, A, B) == ((A, B), {"amount": 0.5, "mode": "add"})
    assert (
        blend(A, B)
        == blend(two=B, one=A)
        == blend(A, B, 0.5, mode="add")
        == node("blend@1", A, B, amount=0.5, mode="add")
    )
    assert made(blend, A, 2, B) == ((A, B), {"two": 2, "mode": "add"})
    assert made(blend, 1, mode=B, two=2) == ((B,), {"one": 1, "two": 2, "amount": 0.5})
    assert value(ops, blend(B, A)) == ("B", "A", 0.5, "add")
    assert value(ops, blend(A, 2, B)) == ("A", 2, "B", "add")
    assert value(ops, blend(1, mode=B, two=2)) == (1, 2, 0.5, "B")


def test_another_default_is_another_id(ops: Ops) -> None:
    def blur(frame: Any, radius: int = 1) -> Any: ...

    one = ops.op(blur)(A)
    blur.__defaults__ = (2,)
    assert ops.op(blur)(A) != one == ops.op(blur)(A, 1)


def test_several_nodes_go_to_a_starred_parameter(ops: Ops) -> None:
    @ops.op
    def stack(base: Any, *frames: Any, gap: int = 0, **more: Any) -> Any:
        return base, frames, gap, more

    assert made(stack, A, B, C, B, gap=1, colour="red") == ((A, B, C, B), {"gap": 1, "colour": "red"})
    assert value(ops, stack(A, C, B, colour="red")) == ("A", ("C", "B"), 0, {"colour": "red"})
    assert value(ops, stack(7, A)) == (7, ("A",), 0, {})
    assert value(ops, stack(7)) == (7, (), 0, {})


def test_positional_only_and_keyword_only_parameters_come_back_as_they_are_declared(ops: Ops) -> None:
    @ops.op
    def cut(frame: Any, at: int = 3, /, *, mask: Any, soft: bool = False) -> Any:
        return frame, at, mask, soft

    assert made(cut, A, mask=B) == ((A, B), {"at": 3, "soft": False})
    assert value(ops, cut(A, mask=B)) == ("A", 3, "B", False)
    assert value(ops, cut(1, B, mask=None, soft=True)) == (1, "B", None, True)


def test_an_optional_input_may_be_left_out(ops: Ops) -> None:
    @ops.op
    def key(frame: Any, mask: Any = None) -> Any:
        return frame, mask

    assert made(key, A) == ((A,), {"mask": None}) and made(key, A, B) == ((A, B), {})
    assert value(ops, key(A)) == ("A", None) and value(ops, key(A, B)) == ("A", "B")


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda stack: stack(A, B, 3), r"\*frames takes nodes, and argument 1 of it is an int"),
        (lambda stack: stack(A, gap=B), r"gap is a node, and would be lost behind \*"),
        (lambda stack: stack(A, more=B), r"more is a node, but \*\*more takes plain values"),
        (lambda stack: stack(A, colour=B), r"colour is a node, but \*\*more takes plain values"),
        (lambda stack: stack(A, base=1), r"base in \*\*more is the name of another parameter"),
        (lambda stack: stack([A, B]), r"base is a list with nodes inside: declare \*base"),
        (lambda stack: stack(A, colour={"x": B}), r"colour is a dict with nodes inside"),
        (lambda stack: stack(), r"missing a required .*argument: 'base'"),
    ],
)
def test_what_could_not_be_put_back_in_its_place_is_a_type_error_that_names_the_parameter(
    ops: Ops, call: Callable[[Op], Node], named: str
) -> None:
    @ops.op
    def stack(base: Any, /, *frames: Any, gap: int = 0, **more: Any) -> Any: ...

    with pytest.raises(TypeError, match=named):
        call(stack)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda blur: blur(), "missing a required argument: 'frame'"),
        (lambda blur: blur(A, 1, 2), "too many positional arguments"),
        (lambda blur: blur(A, 1, gain=2), "got an unexpected keyword argument 'gain'"),
        (lambda blur: blur(A, frame=A), "multiple values for argument 'frame'"),
    ],
)
def test_a_call_that_does_not_fit_the_function_is_a_type_error_that_names_the_op(
    call: Callable[[Op], Node], why: str
) -> None:
    @Ops("studio").op(version=3)
    def blur(frame: Any, radius: int = 1) -> Any: ...

    with pytest.raises(TypeError, match=f"^studio.blur@3: {why}"):
        call(blur)


def test_a_function_whose_signature_nobody_knows_is_a_type_error_that_names_it(ops: Ops) -> None:
    with pytest.raises(TypeError, match=r"max@1: builtins\.max has no signature .*: write a plain def"):
        ops.op(max)
    assert "max@1" not in ops


@pytest.mark.parametrize(
    ("inputs", "params", "named"),
    [
        ((), {"radius": 1}, "blur@1 has a parameter frame, and the node neither"),
        (("A",), {}, "blur@1 has a parameter radius, and the node neither a param nor an input"),
        (("A", "B"), {"radius": 1}, "blur@1 takes 1 inputs with these params, not 2"),
        (("A",), {"radius": 1, "sigma": 2}, "blur@1 has no parameter 'sigma'"),
    ],
)
def test_a_node_of_an_older_function_is_refused_with_the_parameters_name(
    ops: Ops, inputs: tuple[Any, ...], params: dict[str, Any], named: str
) -> None:
    @ops.op
    def blur(frame: Any, radius: int = 1) -> Any: ...

    with pytest.raises(TypeError, match=named):
        ops("blur@1", inputs, params)


def test_a_node_behind_a_star_is_not_guessed_where_a_param_is_missing(ops: Ops) -> None:
    @ops.op
    def stack(*frames: Any, gap: int = 0) -> Any: ...

    with pytest.raises(TypeError, match="parameter gap"):
        ops("stack@1", ("A", "B"), {})


# --- names ----------------------------------------------------------------------------------------


def test_an_op_is_named_by_prefix_name_and_version() -> None:
    studio = Ops("studio")

    @studio.op
    def blur() -> int:
        """Softens."""
        return 1

    named = studio.op("soft", 2)(blur.fn)
    assert (blur.op, named.op, list(studio)) == ("studio.blur@1", "studio.soft@2", ["studio.blur@1", "studio.soft@2"])
    assert studio.op(name="again", version=3)(named).op == "studio.again@3"
    assert blur.__doc__ == "Softens." and str(inspect.signature(blur)) == "() -> 'int'" and blur.fn() == 1
    assert repr(studio) == "<Ops of 3: studio.blur@1, studio.soft@2, studio.again@3>"
    assert "studio.blur@1" in studio and "blur@1" not in studio and studio["studio.blur@1"] is blur


@pytest.mark.parametrize(
    ("wrong", "error", "named"),
    [
        (lambda ops: ops.op(name="blur@2"), InvalidName, "expected text without '@'"),
        (lambda ops: ops.op(name=""), InvalidName, "expected text without '@'"),
        (lambda ops: ops.op(version="2"), TypeError, "version must be an int, not str"),
        (lambda ops: ops.op(version=True), TypeError, "version must be an int, not bool"),
        (lambda ops: ops.op(version=0), ValueError, "at least 1"),
        (lambda ops: lambda _: ops.op(3), TypeError, "made of a function, not of an int"),
        (lambda ops: lambda _: ops.op(lambda x: x), InvalidName, "a lambda has no name"),
        (lambda ops: lambda _: Ops(b"studio"), TypeError, "prefix must be a str"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda ops: lambda _: Ops("a@1"), InvalidName, "prefix"),
    ],
)
def test_a_wrong_name_or_version_is_refused(wrong: Any, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        wrong(Ops())(everything)


def test_a_function_that_gives_no_result_at_once_is_refused() -> None:
    async def later() -> None: ...

    def some() -> Any:
        yield 1

    for fn in (later, some):
        with pytest.raises(TypeError, match="write a plain def"):
            Ops().op(fn)


def test_an_unknown_op_is_a_lookup_error_that_names_what_is_there(fed: Federation) -> None:
    ops = Ops()
    ops.op(version=2)(everything)
    with pytest.raises(LookupError, match=r"no op 'everything@1' in this Ops: it has 'everything@2'"):
        ops("everything@1", (), {})
    with pytest.raises(RunError, match="it has 'everything@2'"):
        run(fed, node("load@1"), ops)


def test_nothing_is_global() -> None:
    one, other = Ops(), Ops()
    one.op(everything)
    assert list(one) == ["everything@1"] and list(other) == []


# --- a run ----------------------------------------------------------------------------------------


def test_a_run_computes_what_was_authored(fed: Federation) -> None:
    m = ops_module
    target = m.mix(m.blur(m.load("a.png"), radius=3), m.load("bb.png"))
    done = run(fed, target, m.ops)
    assert done.value == [0.5 * (15 + 6), 0.5 * (3 + 1), 0.5 * (6 + 2)]
    assert not run(fed, target, m.ops).computed


CELL = "@ops.op\ndef double(x):\n    return {} * x\n"


def cell(text: str, names: dict[str, Any], number: int) -> None:
    """Run a cell as a notebook does: with its text where `inspect` finds it."""
    name = f"<cell {number}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), names)


def test_defining_a_cell_again_replaces_the_op_and_the_next_run_says_so(
    fed: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    names: dict[str, Any] = {"ops": Ops()}
    cell(CELL.format(2), names, 1)
    target = names["double"](3)
    assert run(fed, target, names["ops"]).value == 6
    cell(CELL.format(2), names, 2)  # the same again
    events: list[Event] = []
    run(fed, target, names["ops"], observe=events.append)
    assert [event.kind for event in events] == ["reused"]
    cell(CELL.format("2.0"), names, 3)
    assert names["double"](3) == target and list(names["ops"]) == ["double@1"]
    assert run(fed, target, names["ops"], observe=events.append).value == 6
    assert [event.kind for event in events[1:]] == ["resourced", "reused"] and "double@1" in caplog.text
    assert repr(run(fed, target, names["ops"], refresh=True).value) == "6.0"


# --- source ---------------------------------------------------------------------------------------


def test_the_source_is_the_text_of_the_function_without_its_decorator() -> None:
    text = inspect.getsource(ops_module.blur.fn)
    assert text.startswith("@ops.op\n")
    expected = hashlib.sha256(text.removeprefix("@ops.op\n").rstrip("\n").encode()).hexdigest()
    assert ops_module.ops.source("studio.blur@1") == expected
    assert ops_module.ops.source("studio.blur@2") == ""

    def inner() -> int:
        return 1

    one, other = Ops(), Ops()
    one.op(inner), other.op(name="inner", version=1)(inner)
    assert one.source("inner@1") == other.source("inner@1") != ""


def test_a_function_without_text_is_known_by_its_code_in_every_process() -> None:
    def sources(text: str) -> str:
        names: dict[str, Any] = {}
        exec(f"def f(x):\n    return {text}", names)
        ops = Ops()
        ops.op(names["f"])
        return ops.source("f@1")

    assert sources("x + 1") == sources("x + 1") != sources("x + 2")
    assert sources("[y for y in x]") != sources("[y for y in x if y]")
    script = """if True:
        from artdag_fed.ops import Ops
        ops, names = Ops(), {}
        exec("def f(x):\\n    return x in {'a', 'b', 'c', 'd'}", names)
        ops.op(names["f"])
        print(ops.source("f@1"))
    """
    path = str(Path(__file__).parents[1] / "src")
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONPATH": path, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert len(found) == 1
    builtin = Ops()
    builtin.op(len)
    assert builtin.source("len@1") == ""


# --- travelling -----------------------------------------------------------------------------------


def test_ops_pickle_by_name_and_keep_their_sources() -> None:
    sent = pickle.dumps(ops_module.ops)
    assert b"ops_module" in sent and len(sent) < 700
    back = pickle.loads(sent)
    assert back["studio.blur@1"] is ops_module.blur and back.source("studio.mix@1") == ops_module.ops.source(
        "studio.mix@1"
    )
    assert pickle.loads(pickle.dumps(ops_module.blur)) is ops_module.blur


def test_an_ops_computes_in_a_process_that_imports_it() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        done = pool.submit(ops_module.ops, "studio.blur@1", ([1, 2],), {"radius": 3}).result(60)
    assert done == [3, 6]


def test_a_process_with_other_code_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.dumps(ops_module.ops)
    newer = Ops("studio").op(version=2)(ops_module.blur.fn)
    monkeypatch.setattr(ops_module, "blur", newer)
    with pytest.raises(InvalidName, match=r"studio.blur@2' in this process, but 'studio.blur@1' was sent"):
        pickle.loads(sent)


def test_what_no_other_process_finds_by_name_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ops_module.ops.unreachable() == {}
    ops = Ops()

    @ops.op
    def inner() -> None: ...

    def replaced() -> None: ...

    replaced.__module__, replaced.__qualname__ = ops_module.__name__, "blur"
    ops.op(replaced)

    def prompt() -> None: ...

    prompt.__module__, prompt.__qualname__ = "__main__", "prompt"
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    ops.op(prompt)
    why = ops.unreachable()
    assert list(why) == ["inner@1", "replaced@1", "prompt@1"]
    assert "inside of a function" in why["inner@1"] and "no longer what its module has" in why["replaced@1"]
    assert "in a notebook or at a prompt" in why["prompt@1"]
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(ops)
