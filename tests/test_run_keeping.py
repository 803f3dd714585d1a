"""Running a DAG: what is kept of a result, how long, and what is done where it cannot be read any more.

Rules: over a dict, `open()` and `open(path)`; runners count what they are asked.
"""

from __future__ import annotations

import hashlib
import sqlite3
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import (
    Codec,
    Dag,
    DiskCache,
    Event,
    Federation,
    MemoryCache,
    Record,
    RunError,
    export,
    forget,
    grouping,
    import_,
    invalidate,
    node,
    run,
)
from artdag_fed.cache import Entry, Staged
from artdag_fed.events import tell_damaged
from tests.instances import everyone
from tests.sums import add, chain, fails_at

# --- what is kept ---------------------------------------------------------------------------------


class Keeping(MemoryCache):
    """Has the entries that were staged."""

    staged: list[Entry]

    def stage(self, entries: Iterable[Entry]) -> Staged:
        self.staged = list(entries)
        return super().stage(self.staged)


def test_what_is_kept_has_every_field() -> None:
    cache = Keeping()
    run(Federation(cache), chain(2), lambda op, inputs, params: sum(inputs))
    assert [len(entry) for entry in cache.staged] == [len(Entry._fields)] * len(cache.staged)
    assert all(type(entry) is Entry for entry in cache.staged) and cache.staged


def test_values_are_let_go_of_when_they_are_not_needed_any_more(tmp_path: Any) -> None:
    class Frame:
        def __init__(self, n: int) -> None:
            self.n = n

    codec = Codec().with_type("frame", Frame, lambda frame: frame.n, Frame)
    fed = Federation(DiskCache(tmp_path / "frames", codec))
    alive: list[weakref.ref[Frame]] = []
    most = 0

    def render(op: str, inputs: tuple[Frame, ...], params: Mapping[str, Any]) -> Frame:
        nonlocal most
        frame = Frame(sum(f.n for f in inputs) + 1)
        alive.append(weakref.ref(frame))
        most = max(most, sum(ref() is not None for ref in alive))
        return frame

    top = chain(50)
    assert run(fed, top, render).value.n == 50
    assert most <= 3  # the input, the result, and the one that the caller's frame has not let go of yet
    fed.cache.close()  # type: ignore[attr-defined]  # every cache inside a Federation has it


def test_in_memory_results_stay_the_objects_that_they_are() -> None:
    thing = ["a list"]
    done = run(Federation({}), node("top@1", node("low@1")), lambda op, inputs, params: inputs[0] if inputs else thing)
    assert done.value is thing and done.federation.cache[node("low@1").cid] is thing


def test_a_result_keeps_its_recipe_and_the_digest_of_its_inputs(durable: Federation) -> None:
    low, other = add(n=1), add(n=2)
    top = add(low, other, low, n=3)
    run(durable, top, lambda op, inputs, params: params["n"])
    records = {r.cid: r for r in export(durable, "me")}
    assert records[top.cid].recipe == top.recipe

    digests = "".join(records[i.cid].digest for i in top.inputs)
    path = durable.cache.path  # type: ignore[attr-defined]  # of a DiskCache
    with sqlite3.connect(f"{path}/index.sqlite3") as db:
        [(kept,)] = db.execute("SELECT inputs_digest FROM result WHERE cid = ?", (top.cid,))
    db.close()
    assert kept == hashlib.sha256(digests.encode()).hexdigest()


def test_a_damaged_result_is_computed_again(durable: Federation, runner: Any) -> None:
    top = node("big@1")
    run(durable, top, lambda op, inputs, params: b"x" * 100_000)
    path = durable.cache.path  # type: ignore[attr-defined]  # of a DiskCache

    [blob] = [p for p in Path(path, "blobs").rglob("*") if p.is_file()]
    blob.chmod(0o600)
    blob.write_bytes(b"y" * blob.stat().st_size)
    told: list[Event] = []
    done = run(durable, top, lambda op, inputs, params: b"x" * 100_000, observe=told.append)
    assert (done.computed, done.value[:1]) == ((top.cid,), b"x")
    assert told[0].kind == "damaged"
    assert run(durable, top, runner).reused == (top.cid,)


class Lossy(MemoryCache):
    """A cache that holds results which it cannot give, as one on disk does whose files are damaged."""

    lost: frozenset[str] = frozenset()

    def load(self, cids: Iterable[str], observe: Any = None) -> Any:
        asked = list(cids)
        for cid in self.lost & set(self.held(asked)):
            tell_damaged(observe, cid, "lost")
        return super().load([cid for cid in asked if cid not in self.lost], observe)


def test_an_input_that_is_held_and_cannot_be_read_is_computed_with_all_that_it_needs(runner: Any) -> None:
    cache = Lossy()
    fed = Federation(cache)
    mid = add(add(n=1), n=2)
    run(fed, mid, runner)
    cache.lost = frozenset({mid.cid, add(n=1).cid})
    runner.asked.clear()
    done = run(fed, add(mid, n=3), runner)
    assert (done.value, runner.asked, done.reused) == (6, [1, 2, 3], ())
    with pytest.raises(RunError):
        run(fed, add(mid, n=4), fails_at(2))


def test_what_takes_the_place_of_an_accepted_result_meanwhile_is_asked_about_too(fed: Federation) -> None:
    low, late = add(n=1), add(n=2)
    fed = import_(fed, [Record(low.cid, 1, "bob", recipe=low.recipe)], everyone)

    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        if params["n"] == 2:  # before `low` is read, bob's goes and another peer's comes
            import_(invalidate(fed, "bob"), [Record(low.cid, 666, "mallory", recipe=low.recipe)], everyone)
        return int(sum(inputs)) + int(params["n"])

    done = run(fed, add(late, low, n=3), runner, trusted={"bob"}.__contains__)
    assert done.value == 6
    assert done.federation.cache[low.cid] == 1
    assert not done.federation.provenance and not done.federation.lineage


def test_what_is_read_a_second_time_and_came_from_a_peer_meanwhile_rests_on_the_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grouping, "GROUP_RESULTS", 1)
    cache = Lossy()
    fed = Federation(cache)
    low = add(n=1)
    user, late = add(low, n=2), add(low, n=3)
    fed.cache[late.cid] = 4
    cache.lost = frozenset({late.cid})

    def slow(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        if params["n"] == 2:  # the last that the plan had for `low`: it is let go of, and read again for `late`
            import_(forget(fed, [low.cid]), [Record(low.cid, 1000, "bob")], everyone)
        return int(sum(inputs)) + int(params["n"])

    top = add(late, n=4)
    done = run(fed, Dag(user, top), slow)
    assert done.results == (3, 1007)
    assert dict(done.federation.provenance) == {low.cid: "bob"}
    assert dict(done.federation.lineage) == {late.cid: {"bob"}, top.cid: {"bob"}}


def test_a_mapping_that_forgets_by_itself_is_a_cache_too(runner: Any) -> None:
    class Tiny(dict[str, Any]):
        def __setitem__(self, cid: str, result: Any) -> None:
            self.clear()
            super().__setitem__(cid, result)

    top = add(add(n=1), add(n=2), n=3)
    done = run(Federation(Tiny()), top, runner)
    assert done.value == 6 and len(done.federation) == 1
