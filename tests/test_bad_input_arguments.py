"""What is wrong with a call gets the error that is named for it, on one readable line, and nothing is written.

Rules: over a dict, `open()` and `open(path)`; after each refusal the instance is looked at and is as it was before.
"""

# mypy: disable-error-code="arg-type,list-item,redundant-expr"
# Calls with arguments of the wrong type are what this file is about.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from artdag_fed import (
    Dag,
    Federation,
    InvalidName,
    Record,
    RunError,
    export,
    forget,
    import_,
    invalidate,
    node,
    plan,
    prune,
    pull,
    run,
)
from tests.bad_calls import CONTROL, LONG, N, one_line, record, works
from tests.instances import everyone

Call = Callable[[Federation], Any]


# --- arguments ----------------------------------------------------------------------------------


WRONG_TYPES: dict[str, tuple[Call, str]] = {
    "export of no instance": (lambda fed: export({"c1": 1}, "a"), "fed must be a Federation, not dict: make one with"),
    "import_ into no instance": (lambda fed: import_(None, [], everyone), "fed must be a Federation, not NoneType"),
    "run over no instance": (lambda fed: run(fed.cache, N, works), "fed must be a Federation"),
    "export as nobody": (lambda fed: export(fed, None), "a peer is named by a str, not NoneType"),
    "export of one text": (
        lambda fed: export(fed, "a", "mine"),
        "cids must be several ids, not one text: write ['mine']",
    ),
    "export of a number": (lambda fed: export(fed, "a", 7), "cids must be an iterable of ids, not int"),
    "export of numbers": (lambda fed: export(fed, "a", [7]), "a cid is a str, not int"),
    "export, sign": (lambda fed: export(fed, "a", sign=b"key"), "sign must be a callable, not bytes"),
    "export, trusted": (lambda fed: export(fed, "a", trusted=["b"]), "trusted must be a callable, not list: pass its"),
    "import_, trusted is a set": (
        lambda fed: import_(fed, [record()], {"bob"}),
        "trusted must be a callable, not set: pass its .__contains__",
    ),
    "import_, trusted is nothing": (lambda fed: import_(fed, [record()], None), "trusted must be a callable"),
    "import_, verify": (lambda fed: import_(fed, [record()], everyone, verify=1), "verify must be a callable, not int"),
    "import_, trusted_lineage": (
        lambda fed: import_(fed, [record()], everyone, trusted_lineage="bob"),
        "trusted_lineage must be a callable, not str",
    ),
    "import_, observe": (
        lambda fed: import_(fed, [record()], everyone, observe=[]),
        "observe must be a callable, not list: pass its .append",
    ),
    "import_, limits": (lambda fed: import_(fed, [record()], everyone, limits=10), "limits must be a Limits, not int"),
    "pull, fetch": (lambda fed: pull(fed, [record()], "bob", everyone), "fetch must be a callable, not list"),
    "pull from a number": (lambda fed: pull(fed, lambda peer: [], 7, everyone), "a peer is named by a str, not int"),
    "invalidate nobody": (lambda fed: invalidate(fed, None), "a peer is named by a str, not NoneType"),
    "invalidate, observe": (lambda fed: invalidate(fed, "alice", observe=1), "observe must be a callable"),
    "forget one text": (lambda fed: forget(fed, "mine"), "cids must be several ids, not one text"),
    "forget nothing": (lambda fed: forget(fed, None), "cids must be an iterable of ids, not NoneType"),
    "forget, observe": (lambda fed: forget(fed, ["mine"], observe=1), "observe must be a callable"),
    "run of a cid": (lambda fed: run(fed, "mine", works), "dag must be a Dag or a Node, not str"),
    "run of a list": (lambda fed: run(fed, [N], works), "dag must be a Dag or a Node, not list"),
    "run, runner": (lambda fed: run(fed, N, "works"), "runner must be a callable, not str"),
    "run, trusted": (lambda fed: run(fed, N, works, trusted={"a"}), "trusted must be a callable, not set: pass its"),
    "run, observe": (lambda fed: run(fed, N, works, observe=1), "observe must be a callable"),
    "plan of nothing": (lambda fed: plan(fed, None), "dag must be a Dag or a Node, not NoneType"),
    "plan, offered one text": (
        lambda fed: plan(fed, N, offered="mine"),
        "offered must be a collection of cids, not str",
    ),
    "invalidate, derived in words": (
        lambda fed: invalidate(fed, "alice", derived="no"),
        "derived must be True or False, not 'no'",
    ),
    "invalidate, a dry run of 1": (lambda fed: invalidate(fed, "alice", dry_run=1), "dry_run must be True or False"),
    "forget, derived in words": (lambda fed: forget(fed, ["mine"], derived="no"), "derived must be True or False"),
    "forget, a dry run of None": (lambda fed: forget(fed, ["mine"], dry_run=None), "dry_run must be True or False"),
    "run, refresh in words": (lambda fed: run(fed, N, works, refresh="no"), "refresh must be True or False"),
    "run, keep_going in words": (lambda fed: run(fed, N, works, keep_going="no"), "keep_going must be True or False"),
    "pull, mirror in words": (
        lambda fed: pull(fed, lambda peer: [], "alice", everyone, mirror="no"),
        "mirror must be True or False",
    ),
    "prune, a dry run in words": (
        lambda fed: prune(fed, max_bytes=0, dry_run="no"),
        "dry_run must be True or False",
    ),
    "plan, offered bytes": (lambda fed: plan(fed, N, offered=b"mine"), "offered must be a collection of cids"),
    "plan, offered once": (lambda fed: plan(fed, N, offered=iter([])), "offered must be a collection of cids"),
}


@pytest.mark.parametrize(("call", "message"), WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_an_argument_of_the_wrong_type_is_a_type_error_that_says_what_is_expected(
    used: Federation, call: Call, message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        call(used)
    assert message in one_line(caught.value)
    assert ("pass its" in message) == ("pass its" in str(caught.value))


WRONG_NAMES: dict[str, Call] = {
    "export as": lambda fed: export(fed, CONTROL),
    "export as, long": lambda fed: export(fed, LONG),
    "export, cid": lambda fed: export(fed, "a", [CONTROL]),
    "export, cid, long": lambda fed: export(fed, "a", ["mine", LONG]),
    "pull from": lambda fed: pull(fed, lambda peer: [record()], CONTROL, everyone),
    "invalidate": lambda fed: invalidate(fed, LONG, derived=True),
    "invalidate empty": lambda fed: invalidate(fed, ""),
    "forget": lambda fed: forget(fed, ["mine", CONTROL]),
    "put": lambda fed: fed.cache.__setitem__(LONG, 1),
    "op": lambda fed: node(""),
    "op with a surrogate": lambda fed: node("\ud800" + LONG),
}


@pytest.mark.parametrize("call", WRONG_NAMES.values(), ids=WRONG_NAMES)
def test_a_name_that_cannot_be_one_is_an_invalid_name_and_a_value_error(used: Federation, call: Call) -> None:
    with pytest.raises(InvalidName) as caught:
        call(used)
    assert isinstance(caught.value, ValueError) and "expected" in one_line(caught.value)


def test_arguments_are_looked_at_before_a_peer_is_asked_for_anything(used: Federation) -> None:
    def fetch(peer: str) -> Any:
        raise AssertionError("asked")

    bad: dict[str, Any]
    for bad in ({"limits": 1}, {"verify": 1}, {"trusted_lineage": 1}, {"observe": 1}):
        with pytest.raises(TypeError, match="must be a"):
            pull(used, fetch, "bob", everyone, **bad)
    with pytest.raises(TypeError, match="must be a"):
        pull(used, fetch, "bob", None)


@pytest.mark.parametrize("cache", [[], ["c1"], "c1", 7, {"c1"}, ("c1",)])
def test_what_is_no_mapping_is_no_cache(cache: Any) -> None:
    with pytest.raises(TypeError, match="mapping"):
        Federation(cache)


@pytest.mark.parametrize(("key", "error"), [("not a cid", InvalidName), (7, TypeError), (LONG, InvalidName)])
def test_a_mapping_with_a_key_that_is_no_cid_is_refused(key: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        Federation({key: 1})
    one_line(caught.value)


def test_origins_that_are_no_mapping_are_refused() -> None:
    for given in ([("c1", "alice")], None):
        with pytest.raises(TypeError, match="provenance must be a mapping by cid"):
            Federation({}, given)
        with pytest.raises(TypeError, match="lineage must be a mapping by cid"):
            Federation({}, {}, given)


# --- predicates ---------------------------------------------------------------------------------


def numpy_true() -> Any:
    return pytest.importorskip("numpy").True_


ANSWERS: dict[str, Callable[[], Any]] = {
    "1": lambda: 1,
    "0": lambda: 0,
    "None": lambda: None,
    "text": lambda: "yes",
    "numpy": numpy_true,
}
ASKERS: dict[str, Callable[[Federation, Any], Any]] = {
    "import_, trusted": lambda fed, ask: import_(fed, [record("n0", "safe"), record()], ask),
    "import_, trusted_lineage": lambda fed, ask: import_(
        fed, [record(), Record("n1", 1, "bob", {"carol"})], everyone, trusted_lineage=ask
    ),
    "pull, trusted": lambda fed, ask: pull(fed, lambda peer: [record()], "bob", ask),
    "export, trusted": lambda fed, ask: list(export(fed, "me", trusted=ask)),
    "run, trusted": lambda fed, ask: run(fed, Dag(N, held_by_alice(fed)), works, trusted=ask),
    "plan, trusted": lambda fed, ask: plan(fed, held_by_alice(fed), trusted=ask),
}

HELD = node("held@1")


def held_by_alice(fed: Federation) -> Any:
    import_(fed, [Record(HELD.cid, 1, "alice")], everyone)
    return HELD


def content(fed: Federation) -> dict[str, Any]:
    return {cid: fed.cache[cid] for cid in fed if cid != HELD.cid}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("ask", ASKERS.values(), ids=ASKERS)
def test_a_predicate_that_answers_neither_true_nor_false_is_a_type_error_and_nothing_is_written(
    fed: Federation, ask: Callable[[Federation, Any], Any], answer: Callable[[], Any]
) -> None:
    import_(fed, [Record("theirs", 1, "alice")], everyone)
    before = content(fed)
    given = answer()
    with pytest.raises(
        TypeError, match=r"must answer True or False, not (None: does it return|.*: wrap it in bool)"
    ) as caught:
        ask(fed, lambda peer: True if peer == "safe" else given)
    assert "trusted" in one_line(caught.value) and ("numpy" in str(caught.value)) is type(given).__module__.startswith(
        "numpy"
    )
    assert content(fed) == before


@pytest.mark.parametrize("ask", ASKERS.values(), ids=ASKERS)
def test_what_a_predicate_raises_ends_the_call_as_it_is_and_nothing_is_written(
    fed: Federation, ask: Callable[[Federation, Any], Any]
) -> None:
    class OutOfCoffee(Exception):
        pass

    def trusted(peer: str) -> bool:
        if peer == "safe":
            return True
        raise OutOfCoffee

    import_(fed, [Record("theirs", 1, "alice")], everyone)
    before = content(fed)
    with pytest.raises(OutOfCoffee):
        ask(fed, trusted)
    assert content(fed) == before


def test_predicates_are_asked_once_per_peer_and_call(fed: Federation) -> None:
    asked: list[str] = []

    def trusted(peer: str) -> bool:
        asked.append(peer)
        return peer != "mallory"

    names = ["bob", "mallory", "carol"]
    bundle = [Record(f"c{n}", n, names[n % 3], {"dave", "erin"} if n % 2 else {"dave"}) for n in range(30)]
    import_(fed, bundle, trusted)
    assert asked == names
    asked.clear()
    import_(fed, bundle, everyone, trusted_lineage=trusted)
    assert sorted(asked) == ["dave", "erin"]
    import_(fed, bundle, trusted)
    assert len(asked) == 2 + 3  # and again in the next call: trust may have changed


# --- hostile names in messages ----------------------------------------------------------------------


@pytest.mark.parametrize("hostile", [CONTROL, LONG, CONTROL * 1000])
def test_hostile_text_stays_one_short_line_in_every_message(fed: Federation, hostile: str) -> None:
    def broken(op: str, inputs: object, params: object) -> Any:
        raise ValueError(hostile)

    with pytest.raises(RunError) as caught:
        run(fed, node(hostile, text=hostile), broken)
    one_line(caught.value)
    done = run(fed, node("top@1", node(hostile, text=hostile)), broken, keep_going=True)
    for failure in done.failed.values():
        one_line(failure)
    with pytest.raises(RunError) as caught:
        _ = done.value
    one_line(caught.value)
    told: list[Any] = []
    import_(fed, [Record(hostile, 1, "bob"), Record("c1", 1, hostile)], everyone, observe=told.append)
    assert len(told) == 3 and all(len(repr(event)) < 3000 and repr(event).isprintable() for event in told)
