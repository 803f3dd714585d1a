"""Making room: which results go, which never do, and what others do meanwhile.

Rules: over a dict, `open()` and `open(path)`; a result of `n` bytes is a text that the codec writes in `n` bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import (
    Codec,
    Dag,
    Event,
    Federation,
    InvalidName,
    Node,
    Record,
    import_,
    invalidate,
    node,
    prune,
    pruning,
    run,
)
from artdag_fed.cache import Changes
from artdag_fed.instance import cache_of
from tests.instances import Again, Make, everyone

OVERHEAD = len(Codec().encode(""))


def sized(size: int, letter: str = "x") -> str:
    return letter * (size - OVERHEAD)


def filled(fed: Federation) -> Federation:
    """In this order, 100 bytes each: m1, a1, m2, b1, a2, m3; m computed here, a from alice, b from bob."""
    for cid in ("m1", "a1", "m2", "b1", "a2", "m3"):
        peer = {"a": "alice", "b": "bob"}.get(cid[0])
        if peer is None:
            fed.cache[cid] = sized(100)
        else:
            fed = import_(fed, [Record(cid, sized(100), peer)], everyone)
    return fed


# --- what goes ------------------------------------------------------------------------------------


def test_foreign_results_go_first_and_of_each_kind_the_oldest_until_the_rest_fits(make: Make, again: Again) -> None:
    order = ["a1", "b1", "a2", "m1", "m2", "m3"]
    for left in range(7):
        fed = prune(filled(make()), max_bytes=100 * left + 99)
        assert set(fed) == set(again(fed)) == set(order[6 - left :])
        assert (fed.report.dropped, fed.report.holding) == (6 - left, (left, 100 * left, 0.0))


def test_what_fits_stays_and_nothing_is_dropped(fed: Federation) -> None:
    assert prune(fed, max_bytes=0).report.holding == (0, 0, 0.0)
    fed = prune(filled(fed), max_bytes=600)
    assert (len(fed), fed.report.dropped, fed.report.dropping, fed.report.holding) == (6, 0, {}, (6, 600, 0.0))


def test_the_report_says_what_went_by_peer_and_what_is_left(fed: Federation) -> None:
    told: list[Event] = []
    fed = prune(filled(fed), max_bytes=200, observe=told.append)
    assert fed.report.dropping == {"alice": (2, 200, 0.0), "bob": (1, 100, 0.0), None: (1, 100, 0.0)}
    assert (fed.report.dropped, fed.report.holding, told) == (4, (2, 200, 0.0), [Event("dropped", count=4)])


def test_a_dry_run_changes_nothing_and_says_what_the_real_one_then_does(fed: Federation) -> None:
    told: list[Event] = []
    dry = prune(filled(fed), max_bytes=250, keep=["a1"], dry_run=True, observe=told.append)
    assert (len(dry), dry.report.dropped, told) == (6, 0, [])
    real = prune(fed, max_bytes=250, keep=["a1"])
    assert set(real) == {"a1", "m3"}
    assert (real.report.dropping, real.report.holding) == (dry.report.dropping, dry.report.holding)


def test_a_result_that_was_stored_anew_is_new(fed: Federation) -> None:
    fed = filled(fed)
    fed.cache["m1"] = sized(100, "y")
    assert set(prune(fed, max_bytes=100)) == {"m1"}


def test_results_of_seconds_are_counted_in_seconds(fed: Federation, runner: Any) -> None:
    def slow(op: str, inputs: tuple[Any, ...], params: Any) -> str:
        return sized(params["size"])

    fed = run(fed, Dag(*(node("op@1", size=100, n=n) for n in range(3))), slow).federation
    before = sum(total.seconds for total in cache_of(fed).origins().values())
    dry = prune(fed, max_bytes=0, dry_run=True).report
    assert dry.dropping[None].seconds == pytest.approx(before) and before > 0
    assert dry.holding is not None and dry.holding.seconds == pytest.approx(0)
    assert prune(fed, max_bytes=0).report.holding == (0, 0, 0.0)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_in_batches_the_same_results_go(fed: Federation, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(pruning, "BATCH", batch)
    assert set(prune(filled(fed), max_bytes=200, keep=["b1"])) == {"b1", "m3"}


def test_large_results_leave_the_folder_at_once_whatever_their_number(
    durable: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("artdag_fed.caches.disk.BATCH", 2)
    for n in range(9):
        durable.cache[f"m{n}"] = sized(200_000, str(n))
    prune(durable, max_bytes=200_000)
    files = [name for name in os.listdir(Path(durable.cache.path) / "blobs") if name != "staging"]  # type: ignore[attr-defined]  # a DiskCache
    assert files == [hashlib.sha256(Codec().encode(sized(200_000, "8"))).hexdigest()]


def test_in_memory_what_the_codec_cannot_carry_counts_nothing() -> None:
    fed = Federation({"old": object(), "text": sized(100), "new": object()})
    assert set(prune(fed, max_bytes=100)) == {"old", "text", "new"}
    fed = prune(fed, max_bytes=99)
    assert (set(fed), fed.report.dropping) == ({"new"}, {None: (2, 100, 0.0)})


def test_the_evidence_about_what_was_dropped_stays(fed: Federation) -> None:
    fed = import_(filled(fed), [Record("a1", "another", "carol")], everyone)
    evidence = list(cache_of(fed).offers())
    fed = prune(fed, max_bytes=0)
    assert (len(fed), list(cache_of(fed).offers())) == (0, evidence) and len(evidence) == 2


# --- what stays -----------------------------------------------------------------------------------


def chain(*names: str) -> list[Node]:
    """Nodes, each built on the one before it."""
    made: list[Node] = []
    for name in names:
        made.append(node("chain@1", *made[-1:], name=name))
    return made


def hundred(op: str, inputs: tuple[Any, ...], params: Any) -> str:
    return sized(100, params["name"])


def test_what_is_kept_stays_and_all_that_it_was_built_on(fed: Federation) -> None:
    low, middle, top, other = [*chain("a", "b", "c"), node("chain@1", name="d")]
    fed = import_(fed, [Record(low.cid, sized(100), "alice", recipe=low.recipe)], everyone)
    fed = run(fed, Dag(top, other), hundred).federation
    fed = prune(fed, max_bytes=0, keep=[middle.cid])
    assert set(fed) == {low.cid, middle.cid}
    assert fed.report.holding is not None and fed.report.holding[:2] == (2, 200)


def test_where_what_is_kept_is_more_than_may_be_everything_else_goes(fed: Federation) -> None:
    fed = prune(filled(fed), max_bytes=150, keep=["a1", "m1"])
    assert (set(fed), fed.report.holding) == ({"a1", "m1"}, (2, 200, 0.0))


def test_below_an_input_that_is_not_held_only_a_node_knows_more(make: Make) -> None:
    low, middle, top = chain("a", "b", "c")
    for keep, left in (([top.cid], {top.cid}), ([top], {low.cid, top.cid}), (Dag(top), {low.cid, top.cid})):
        fed = run(make(), top, hundred).federation
        del fed.cache[middle.cid]
        assert set(prune(fed, max_bytes=0, keep=keep)) == left


def test_keep_may_be_read_once_and_name_what_is_not_held(fed: Federation) -> None:
    keep: list[str | Node] = ["m1", "never-held", node("no@1")]
    assert set(prune(filled(fed), max_bytes=0, keep=iter(keep))) == {"m1"}


def test_a_long_chain_is_kept_whole_in_small_batches(fed: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 3)
    nodes = chain(*map(str, range(50)))
    wide = node("wide@1", *nodes, name="wide")
    fed = run(fed, wide, lambda op, inputs, params: 1).federation
    fed.cache["other"] = 1
    assert set(prune(fed, max_bytes=0, keep=[wide.cid])) == {wide.cid, *(n.cid for n in nodes)}


def test_an_evicted_input_is_computed_again_when_it_is_needed(fed: Federation) -> None:
    low, middle, top = chain("a", "b", "c")
    fed = import_(fed, [Record(low.cid, sized(100, "a"), "alice", recipe=low.recipe)], everyone)
    fed = run(fed, middle, hundred).federation
    fed = prune(fed, max_bytes=100)
    assert set(fed) == {middle.cid}
    assert run(fed, top, hundred).computed == (top.cid,)
    done = run(fed, Dag(low, top), hundred, refresh=False)
    assert done.computed == (low.cid,) and low.cid not in done.federation.provenance


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_a_model_of_a_few_lines(make: Make, seed: int) -> None:
    chance = random.Random(seed)
    fed, nodes = make(), list[Node]()
    sizes, origins, order = dict[str, int](), dict[str, str | None](), list[str]()
    for n in range(30):
        peer, size = chance.choice([None, None, "alice", "bob"]), chance.randrange(OVERHEAD + 1, 90)
        made = node("op@1", *chance.sample(nodes, min(len(nodes), chance.randrange(3))), n=n, size=size)
        if peer is None:
            fed = run(fed, made, lambda op, inputs, params: sized(params["size"])).federation
        else:
            import_(fed, [Record(made.cid, sized(size), peer, recipe=made.recipe)], everyone)
        nodes.append(made)
        order.append(made.cid)
        sizes[made.cid], origins[made.cid] = size, peer
    keep = chance.sample(nodes, 3)
    kept = {below.cid for below in Dag(*keep)}
    for most in sorted((chance.randrange(sum(sizes.values())) for _ in range(6)), reverse=True):
        left = dict(sizes)
        for foreign, cid in itertools.product((True, False), order):
            if sum(left.values()) > most and cid in left and cid not in kept and (origins[cid] is not None) == foreign:
                del left[cid]
        fed = prune(fed, max_bytes=most, keep=[n.cid for n in keep])
        assert set(fed) == set(left)
        assert fed.report.holding is not None and fed.report.holding[:2] == (len(left), sum(left.values()))
        sizes = left


# --- others at work -------------------------------------------------------------------------------


def meanwhile(monkeypatch: pytest.MonkeyPatch, fed: Federation, do: Callable[[], object]) -> None:
    """`do` once, between the look at the results and the first commit that drops some."""
    cls: Any = type(fed.cache)
    commit, once = cls.commit, [do]

    def committed(self: Any, changes: Changes) -> Any:
        if changes.drop_if and once:
            once.pop()()
        return commit(self, changes)

    monkeypatch.setattr(cls, "commit", committed)


def test_what_was_replaced_meanwhile_stays_and_another_one_goes(
    fed: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed = filled(fed)

    def replace() -> None:
        fed.cache["a1"] = sized(100, "y")

    meanwhile(monkeypatch, fed, replace)
    fed = prune(fed, max_bytes=400)
    assert fed.cache["a1"] == sized(100, "y")
    assert (set(fed), fed.report.dropped) == ({"a1", "m1", "m2", "m3"}, 2)


def test_what_was_computed_here_meanwhile_with_equal_bits_stays(
    fed: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed = filled(fed)

    def compute() -> None:
        fed.cache["a1"] = fed.cache["a1"]

    meanwhile(monkeypatch, fed, compute)
    left = prune(fed, max_bytes=400)
    assert "a1" in left and "a1" not in left.provenance


def test_what_goes_meanwhile_is_no_error(fed: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    fed = filled(fed)
    meanwhile(monkeypatch, fed, lambda: invalidate(fed, "alice"))
    fed = prune(fed, max_bytes=300)
    assert set(fed) == {"m1", "m2", "m3"} and fed.report.holding == (3, 300, 0.0)


def test_it_does_not_chase_those_who_store_meanwhile(fed: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 1)
    fed = filled(fed)

    def store() -> None:
        for n in range(100):
            fed.cache[f"new{n}"] = sized(100)

    meanwhile(monkeypatch, fed, store)
    after = prune(fed, max_bytes=300)
    assert (after.report.dropped, len(after)) == (3, 103)
    assert after.report.holding == (103, 10_300, 0.0)


def test_a_run_whose_inputs_are_pruned_while_it_works_computes_them_again(fed: Federation) -> None:
    low, middle, top = chain("a", "b", "c")
    last = node("chain@1", low, top, name="d")
    pruned: list[str] = []

    def runner(op: str, inputs: tuple[Any, ...], params: Any) -> str:
        if params["name"] == "c" and not pruned:
            pruned.append("c")
            prune(fed, max_bytes=0)
        return hundred(op, inputs, params)

    fed = run(fed, middle, hundred).federation
    done = run(fed, last, runner)
    assert done.value == sized(100, "d") and pruned


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [True, 1.0, None, "1"])
def test_a_limit_that_is_no_int_is_a_type_error(most: Any) -> None:
    with pytest.raises(TypeError, match="max_bytes must be an int"):
        prune(filled(Federation()), max_bytes=most)


def test_a_limit_below_nothing_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="at least 0, not -1"):
        prune(filled(Federation()), max_bytes=-1)


@pytest.mark.parametrize(
    ("keep", "error"),
    [("m1", TypeError), (node("op@1"), TypeError), (1, TypeError), (["not a cid"], InvalidName), ([None], TypeError)],
)
def test_what_cannot_be_kept_is_refused_and_nothing_goes(keep: Any, error: type[Exception]) -> None:
    fed = filled(Federation())
    with pytest.raises((error, InvalidName)):
        prune(fed, max_bytes=0, keep=keep)
    assert len(fed) == 6
