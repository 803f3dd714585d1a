"""Two things at once, in the order that hurts: made with barriers and calls at the right moment, never with sleeps."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import (
    DiskCache,
    Event,
    Federation,
    MemoryCache,
    Record,
    Report,
    StoreError,
    export,
    forget,
    grouping,
    import_,
    invalidate,
    node,
    run,
)
from artdag_fed.cache import Changes, Entry, Origin
from artdag_fed.caches import disk_index
from artdag_fed.caches.disk_blobs import Area
from tests.children import Child

LARGE = b"large" * 20_000


# --- what the tests share -----------------------------------------------------------------------


@pytest.fixture(params=["memory", "disk"])
def fed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Federation]:
    cache = MemoryCache() if request.param == "memory" else DiskCache(tmp_path / "c")
    yield Federation(cache)
    cache.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskCache]:
    cache = DiskCache(tmp_path / "c")
    yield cache
    cache.close()


def anyone(peer: str) -> bool:
    return True


def elsewhere(fed: Federation, how: str, do: Callable[[Federation], object]) -> None:
    """Do it to the same cache: with the same object, through another one, or from another process."""
    cache = fed.cache
    if how == "here" or isinstance(cache, MemoryCache):
        do(fed)
        return
    assert isinstance(cache, DiskCache)
    path = cache.path

    def there() -> None:
        other = DiskCache(path)
        do(Federation(other))
        other.close()

    if how == "another object":
        there()
    else:
        Child(there).result()


def others_can_write_at_once(cache: DiskCache) -> None:
    """Whether a process that does not wait gets the whole index for itself."""
    path = os.path.join(cache.path, "index.sqlite3")

    def lock() -> None:
        db = sqlite3.connect(path, isolation_level=None, timeout=0)
        db.execute("BEGIN EXCLUSIVE")
        db.execute("ROLLBACK")
        db.close()

    Child(lock).result()


def entry(cache: DiskCache, cid: str, value: Any, peer: str | None = None) -> Entry:
    payload = cache.codec.encode(value)
    return Entry(cid, Origin(peer), hashlib.sha256(payload).hexdigest(), payload, None, False)


def blobs(cache: DiskCache) -> set[str]:
    return {name for name in os.listdir(cache.blobs.path) if name != "staging"}


def check_counts(cache: DiskCache) -> None:
    db = sqlite3.connect(os.path.join(cache.path, "index.sqlite3"))
    kept = db.execute("SELECT id, results, bytes FROM origin WHERE results <> 0 OR bytes <> 0 ORDER BY id").fetchall()
    rows = db.execute("SELECT origin, count(*), sum(size) FROM result GROUP BY origin ORDER BY origin").fetchall()
    db.close()
    assert kept == rows


# --- import against import ----------------------------------------------------------------------


def offers(peer: str, meet: Callable[[], object]) -> Iterator[Record]:
    """The same cids from every peer, some with the same results; all are read before anyone commits."""
    for i in range(20):
        yield Record(f"same{i}", [i], peer)
        yield Record(f"other{i}", f"{peer} says {i}", peer)
        yield Record(f"large{i}", LARGE + peer.encode() + bytes([i]), peer)
    meet()


def check_first_stays(fed: Federation, reports: list[Any]) -> None:
    assert sorted((r.admitted, r.unchanged, r.conflicts) for r in reports) == [(0, 20, 40), (60, 0, 0)]
    provenance = Federation(fed.cache).provenance  # in memory, an older value shows what was
    [winner] = set(provenance.values())
    assert len(fed) == len(provenance) == 60
    for i in range(20):
        assert fed.cache[f"other{i}"] == f"{winner} says {i}"
        assert fed.cache[f"large{i}"] == LARGE + winner.encode() + bytes([i])


def test_of_two_imports_at_once_the_first_stays_and_the_other_counts_its_conflicts(fed: Federation) -> None:
    barrier = threading.Barrier(2)
    reports = []

    def work(peer: str) -> None:
        reports.append(import_(fed, offers(peer, barrier.wait), anyone).report)

    threads = [threading.Thread(target=work, args=(peer,)) for peer in ("alice", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_first_stays(fed, reports)


def test_of_two_imports_in_two_processes_the_first_stays_and_the_other_counts_its_conflicts(disk: DiskCache) -> None:
    here, there = os.pipe(), os.pipe()

    def meet(mine: tuple[int, int], yours: tuple[int, int]) -> Callable[[], object]:
        return lambda: (os.write(mine[1], b"!"), os.read(yours[0], 1))

    def work() -> Any:
        report = import_(Federation(disk), offers("bob", meet(there, here)), anyone).report
        return report.admitted, report.unchanged, report.conflicts

    child = Child(work)
    fed = import_(Federation(disk), offers("alice", meet(here, there)), anyone)
    admitted, unchanged, conflicts = child.result()

    check_first_stays(fed, [fed.report, Report(admitted=admitted, unchanged=unchanged, conflicts=conflicts)])
    check_counts(disk)
    disk.purge()
    assert len(blobs(disk)) == 20 and os.listdir(disk.blobs.staging) == []
    for fd in here + there:
        os.close(fd)


def test_a_result_computed_while_a_peers_is_imported_is_local_in_the_end(fed: Federation) -> None:
    target = node("op")

    def runner(*_: Any) -> int:
        import_(fed, [Record(target.cid, "theirs", "alice")], anyone)
        return 5

    done = run(fed, target, runner)
    assert done.value == fed.cache[target.cid] == 5 and done.federation.provenance == {}
    assert done.federation.report.conflicts == 1


# --- a revocation between a run's reading and its committing --------------------------------------


class Runner:
    """Computes "x" and what is built on it, says what it was asked for, and does something once, at one op."""

    def __init__(self, at: str, do: Callable[[], object]) -> None:
        self.at, self.do = at, do
        self.asked: list[str] = []

    def __call__(self, op: str, inputs: tuple[Any, ...], params: Any) -> Any:
        self.asked.append(op)
        if op == self.at and self.asked.count(op) == 1:
            self.do()
        return f"{op}({', '.join(inputs)})" if inputs else f"my {op}"


x = node("x")
y = node("y", x)
z = node("z", y)
HOW = pytest.mark.parametrize("how", ["here", "another object", "another process"])


@HOW
@pytest.mark.parametrize("derived", [False, True])
def test_what_was_made_of_a_result_that_was_withdrawn_meanwhile_is_computed_again(
    fed: Federation, how: str, derived: bool
) -> None:
    import_(fed, [Record(x.cid, "alice's x", "alice", {"carol"})], anyone)
    events: list[Event] = []
    runner = Runner("y", lambda: elsewhere(fed, how, lambda f: invalidate(f, "alice", derived=derived)))
    done = run(fed, y, runner, observe=events.append)
    assert done.value == fed.cache[y.cid] == "y(my x)"
    assert runner.asked == ["y", "x", "y"]
    assert [(e.kind, e.cid) for e in events if e.kind == "repeated"] == [("repeated", y.cid)]
    assert dict(done.federation.lineage) == {} and dict(done.federation.provenance) == {}
    assert sorted(done.computed) == sorted([x.cid, y.cid])


@HOW
def test_an_input_that_was_withdrawn_and_came_back_from_the_same_peer_is_read_anew(fed: Federation, how: str) -> None:
    import_(fed, [Record(x.cid, "lies", "alice")], anyone)

    def again(f: Federation) -> None:
        invalidate(f, "alice")
        import_(f, [Record(x.cid, "alice's x", "alice")], anyone)

    runner = Runner("y", lambda: elsewhere(fed, how, again))
    done = run(fed, y, runner)
    assert done.value == fed.cache[y.cid] == "y(alice's x)" and runner.asked == ["y", "y"]
    assert dict(done.federation.lineage) == {y.cid: frozenset({"alice"})}


@HOW
@pytest.mark.parametrize(
    ("derived", "committed"),
    [
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    ],
)
def test_what_was_made_in_several_steps_is_computed_again_as_far_as_it_is_gone(
    fed: Federation, how: str, derived: bool, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if committed:
        monkeypatch.setattr(grouping, "GROUP_RESULTS", 1)
    import_(fed, [Record(x.cid, "alice's x", "alice")], anyone)
    runner = Runner("z", lambda: elsewhere(fed, how, lambda f: invalidate(f, "alice", derived=derived)))
    done = run(fed, z, runner)
    if committed and not derived:  # y was there already, and stays: it only rests on alice's
        assert done.value == "z(y(alice's x))" and runner.asked == ["y", "z", "z"]
        assert dict(done.federation.lineage) == dict.fromkeys((y.cid, z.cid), frozenset({"alice"}))
    else:
        assert done.value == "z(y(my x))" and runner.asked == ["y", "z", "x", "y", "z"]
        assert dict(done.federation.lineage) == {}
    assert fed.cache[z.cid] == done.value and dict(done.federation.provenance) == {}
    assert len(set(done.computed)) == len(done.computed)


@HOW
def test_a_result_that_rests_on_nothing_withdrawn_is_kept(fed: Federation, how: str) -> None:
    other = node("other")
    import_(fed, [Record(x.cid, "alice's x", "alice"), Record(other.cid, "bob's", "bob")], anyone)
    runner = Runner("y", lambda: elsewhere(fed, how, lambda f: invalidate(f, "bob", derived=True)))
    assert run(fed, y, runner).value == "y(alice's x)" and runner.asked == ["y"]
    assert y.cid in fed.cache


def test_what_was_read_stays_read_where_it_was_dropped_and_not_withdrawn(fed: Federation) -> None:
    import_(fed, [Record(x.cid, "alice's x", "alice")], anyone)
    runner = Runner("y", lambda: forget(fed, [x.cid]))
    done = run(fed, y, runner)
    assert done.value == "y(alice's x)" and runner.asked == ["y"]
    assert dict(done.federation.lineage) == {y.cid: frozenset({"alice"})}


def test_an_older_value_does_not_make_a_foreign_result_local(fed: Federation) -> None:
    before = Federation(fed.cache)
    import_(fed, [Record(x.cid, "alice's x", "alice")], anyone)
    done = run(before, y, Runner("", lambda: None))
    assert done.federation.provenance[x.cid] == "alice" and done.federation.lineage[y.cid] == {"alice"}
    assert len(invalidate(before, "alice", derived=True)) == 0


# --- a sweep against a staged file ----------------------------------------------------------------


@HOW
def test_a_sweep_leaves_what_is_staged(disk: DiskCache, how: str) -> None:
    fed = Federation(disk)
    staged = disk.stage([entry(disk, f"c{i}", LARGE + bytes([i]), "alice") for i in range(10)])
    elsewhere(fed, how, lambda f: f.cache.sweep())  # type: ignore[attr-defined]  # a DiskCache has it
    disk.commit(Changes(put=staged))
    assert all(disk[f"c{i}"] == LARGE + bytes([i]) for i in range(10))


@HOW
def test_a_file_whose_last_result_goes_while_it_is_staged_again_is_there_afterwards(disk: DiskCache, how: str) -> None:
    fed = import_(Federation(disk), [Record("first", LARGE, "alice")], anyone)
    staged = disk.stage([entry(disk, "second", LARGE, "bob")])

    def remove(f: Federation) -> None:
        invalidate(f, "alice")
        f.cache.sweep()  # type: ignore[attr-defined]  # a DiskCache has it

    elsewhere(fed, how, remove)
    assert blobs(disk) == set()
    disk.commit(Changes(put=staged))
    assert disk["second"] == LARGE and len(blobs(disk)) == 1


def test_nobody_sweeps_between_a_file_getting_its_name_and_its_row_being_committed(
    disk: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_index, "BUSY_SECONDS", 0.05)
    tried = []

    def publish_and_sweep(area: Area, digests: Iterable[str], publish: Any = Area.publish) -> None:
        publish(area, digests)

        def sweep() -> str:
            other = DiskCache(disk.path)
            with pytest.raises(StoreError) as caught:
                other.sweep()
            return str(caught.value)

        tried.append(Child(sweep).result())

    monkeypatch.setattr(Area, "publish", publish_and_sweep)
    disk["a"] = LARGE
    assert len(tried) == 1 and "in use by another process" in tried[0] and disk["a"] == LARGE


def test_a_staging_area_that_is_taken_for_abandoned_before_it_is_locked_is_made_anew(
    disk: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = DiskCache(disk.path)
    lock, tried = fcntl.flock, []

    def lock_late(fd: int, how: int) -> None:
        if how == fcntl.LOCK_EX and len(tried) < 3:
            tried.append(fd)
            other.sweep()
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    disk["a"] = LARGE
    assert len(tried) == 3 and disk["a"] == LARGE and os.listdir(disk.blobs.staging) == []
    other.close()


# --- slow readers -----------------------------------------------------------------------------------


def test_an_export_that_is_read_slowly_holds_nothing_and_skips_what_went(disk: DiskCache) -> None:
    fed = Federation(disk)
    disk["a0"], disk["b0"] = LARGE, "small"
    results = {f"{peer}{i}": LARGE + bytes([i]) if i % 2 else [peer, i] for peer in "pq" for i in range(1, 5)}
    import_(fed, [Record(cid, result, cid[0]) for cid, result in results.items()], anyone)
    bundle = export(fed, "me", sign=lambda statement: b"signed")
    reading = iter(bundle)
    first = [next(reading) for _ in range(3)]
    others_can_write_at_once(disk)

    def go_on(f: Federation) -> None:
        invalidate(f, "q")
        import_(f, [Record("r1", 1, "r")], anyone)
        f.cache["b0"] = "replaced"
        forget(f, ["p4"])

    elsewhere(fed, "another process", go_on)
    rest = list(reading)
    assert [r.cid for r in first + rest] == ["a0", "b0", "p1", "p2", "p3"]
    assert all(r.result == results[r.cid] for r in rest)
    again = {r.cid: r.result for r in bundle}
    assert again["b0"] == "replaced" and again.keys() == {"a0", "b0", "p1", "p2", "p3"}


def walks(fed: Federation) -> dict[str, Iterator[Any]]:
    cache = fed.cache
    assert isinstance(cache, DiskCache)
    return {
        "cids": iter(cache),
        "provenance": iter(fed.provenance.items()),
        "lineage": iter(fed.lineage),
        "recipes": cache.recipes(),
    }


def test_nothing_that_is_read_bit_by_bit_keeps_others_from_writing(disk: DiskCache) -> None:
    fed = Federation(disk)
    nodes = [node("op", i=i) for i in range(2500)]
    records = [Record(n.cid, 1, "alice", {"bob"}, n.recipe) for n in nodes]
    import_(fed, records, anyone)
    reading = walks(fed)
    for walk in reading.values():
        for _ in range(10):
            next(walk)
    others_can_write_at_once(disk)
    disk.commit(Changes(drop=frozenset(n.cid for n in nodes)))
    for name, walk in reading.items():
        assert len(list(walk)) < 1000, name


def test_a_bundle_that_arrives_slowly_keeps_nobody_from_writing(disk: DiskCache) -> None:
    def slowly() -> Iterator[Record]:
        for i in range(3):
            yield Record(f"large{i}", LARGE + bytes([i]), "alice")
            others_can_write_at_once(disk)
        for i in range(2 * 4096):
            yield Record(f"small{i}", "x" * 1000, "alice")
            if i % 1024 == 0:  # before, between and after rows that no longer fit into memory
                others_can_write_at_once(disk)

    assert import_(Federation(disk), slowly(), anyone).report.admitted == 3 + 2 * 4096
    check_counts(disk)


def test_a_runner_that_takes_long_keeps_nobody_from_writing(disk: DiskCache) -> None:
    runner = Runner("z", lambda: others_can_write_at_once(disk))
    assert run(Federation(disk), z, runner).value == "z(y(my x))"


# --- Ctrl-C -----------------------------------------------------------------------------------------


def interrupt(*_: Any) -> Any:
    raise KeyboardInterrupt


def interrupts_at(kind: str) -> Callable[[Event], None]:
    return lambda event: interrupt() if event.kind == kind else None


def check_nothing_is_left(fed: Federation) -> None:
    """No transaction, no lock, no table, no file, no thread; and the cache goes on."""
    assert threading.active_count() == 1
    cache = fed.cache
    if isinstance(cache, DiskCache):
        with cache.alone() as db:
            assert not db.in_transaction
            left = {name for (name,) in db.execute("SELECT name FROM sqlite_temp_master")}
            assert left <= {"staged", "origin_of_kind", "offering", "met"}
        others_can_write_at_once(cache)
        assert os.listdir(cache.blobs.staging) == []
        check_counts(cache)
    cache["afterwards"] = LARGE
    assert cache["afterwards"] == LARGE
    del cache["afterwards"]


def bundle() -> Iterator[Record]:
    yield from (Record(f"large{i}", LARGE + bytes([i]), "alice") for i in range(5))
    yield from (Record(f"small{i}", "x" * 1000, "alice") for i in range(5000))
    yield Record("other", 1, "bob")
    yield Record("refused", 1, "mallory")


def interrupted_bundle() -> Iterator[Record]:
    yield from bundle()
    signal.raise_signal(signal.SIGINT)  # as Ctrl-C does
    yield Record("never", 1, "alice")


def trusted(peer: str) -> bool:
    return interrupt() if peer == "bob" else True


IMPORTS: dict[str, Callable[[Federation], object]] = {
    "the bundle": lambda fed: import_(fed, interrupted_bundle(), anyone),
    "trusted": lambda fed: import_(fed, bundle(), trusted),
    "trusted_lineage": lambda fed: import_(fed, [Record("a", LARGE, "a", {"bob"})], anyone, trusted_lineage=trusted),
    "verify": lambda fed: import_(fed, [Record("a", LARGE, "a", signature=b"s")], anyone, verify=interrupt),
    "observe, of a rejection": lambda fed: import_(
        fed, bundle(), lambda peer: peer != "mallory", observe=interrupts_at("rejected")
    ),
}


@pytest.mark.parametrize("broken_import", IMPORTS.values(), ids=IMPORTS.keys())
def test_ctrl_c_during_an_import_keeps_nothing_of_it_and_loses_nothing(
    fed: Federation, broken_import: Callable[[Federation], object]
) -> None:
    fed.cache["mine"] = LARGE + b"mine"
    with pytest.raises(KeyboardInterrupt):
        broken_import(fed)
    assert list(fed.cache) == ["mine"] and fed.cache["mine"] == LARGE + b"mine"
    check_nothing_is_left(fed)


@pytest.mark.parametrize("kind", ["committed", "withdrawn", "dropped", "conflict"])
def test_ctrl_c_after_a_commit_leaves_it_whole(fed: Federation, kind: str) -> None:
    fed.cache["mine"] = 1
    observe = interrupts_at(kind)
    with pytest.raises(KeyboardInterrupt):
        import_(fed, [*bundle(), Record("mine", 2, "bob")], lambda peer: peer != "mallory", observe=observe)
        invalidate(fed, "alice", observe=observe)
        forget(fed, ["mine"], observe=observe)
    expected = {"withdrawn": 2, "dropped": 1}.get(kind, 5007)
    assert len(fed) == len(list(fed.cache)) == expected
    check_nothing_is_left(fed)


@pytest.mark.parametrize("who", ["runner", "trusted", "observe"])
def test_ctrl_c_during_a_run_keeps_what_is_finished(fed: Federation, who: str) -> None:
    import_(fed, [Record(x.cid, "bob's x", "bob")], anyone)
    finished = node("finished", node("large"))
    targets = node("both", finished, node("last"))
    if who == "runner":
        with pytest.raises(KeyboardInterrupt):
            run(fed, targets, Runner("last", interrupt))
    elif who == "observe":
        runner = Runner("", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(fed, targets, runner, observe=lambda e: interrupt() if (e.kind, e.op) == ("computed", "last") else None)
    else:
        run(fed, finished, Runner("", interrupt))
        with pytest.raises(KeyboardInterrupt):
            run(fed, y, Runner("", interrupt), trusted=trusted)
    assert fed.cache[finished.cid] == "finished(my large)" and fed.cache[x.cid] == "bob's x"
    assert targets.cid not in fed.cache and y.cid not in fed.cache
    check_nothing_is_left(fed)
    assert run(fed, targets, Runner("", interrupt)).value == "both(finished(my large), my last)"


class Interrupter:
    """Raises `KeyboardInterrupt` before the nth line that is run in the caches, as Ctrl-C could at any moment."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.where = ""

    def trace(self, frame: Any, event: str, arg: Any) -> Any:
        if "artdag_fed/caches" not in frame.f_code.co_filename:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.where = f"{frame.f_code.co_name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self.trace

    def __enter__(self) -> Interrupter:
        self._before = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


def state(cache: DiskCache) -> dict[str, tuple[Any, Origin]]:
    return {cid: (value, held.origin) for cid, (held, value) in cache.load(list(cache)).items()}


CHANGES: dict[str, Callable[[Federation], object]] = {
    "import": lambda fed: import_(
        fed, [Record("a", LARGE, "alice"), Record("p", 2, "bob"), Record("b", 1, "bob", {"carol"})], anyone
    ),
    "invalidate": lambda fed: invalidate(fed, "peter", derived=True),
    "forget": lambda fed: forget(fed, ["p", "mine"]),
    "put": lambda fed: fed.cache.__setitem__("mine", LARGE + b"other"),
}


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_ctrl_c_at_any_line_of_a_commit_leaves_old_or_new_and_nothing_open(
    tmp_path: Path, change: Callable[[Federation], object], step: int
) -> None:
    outcomes = set()
    for at in range(1, 3000, step):
        cache = DiskCache(tmp_path / str(at))
        fed = Federation(cache)
        cache["mine"] = LARGE + b"mine"
        import_(fed, [Record("p", LARGE + b"p", "peter"), Record("d", 1, "dora", {"peter"})], anyone)
        before = state(cache)
        with Interrupter(at) as interrupter, contextlib.suppress(KeyboardInterrupt):
            change(fed)
        if not interrupter.where:
            cache.close()
            break
        found = state(cache)
        outcomes.add(found == before)
        other = DiskCache(tmp_path / str(at))
        assert state(other) == found, interrupter.where
        with cache.alone() as db:
            assert not db.in_transaction, interrupter.where
        other["another"] = LARGE + b"another"  # would wait for a minute where something was still locked
        change(fed)
        new = state(cache)
        del new["another"]
        assert new != before, interrupter.where
        if found != before:
            assert found == new, interrupter.where
        check_counts(cache)
        other.close()
        cache.close()
    else:
        raise AssertionError("the change never came to its end")
    assert outcomes == {True, False}
