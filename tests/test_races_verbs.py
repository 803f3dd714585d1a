"""Two verbs at once, in the order that hurts: made with barriers and calls at the right moment, never with sleeps."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from artdag_fed import DiskCache, Event, Federation, Record, Report, forget, grouping, import_, invalidate, node, run
from tests import racing
from tests.children import Child
from tests.disk_caches import LARGE, blobs, check_counts
from tests.racing import HOW, Runner, anyone, elsewhere, x, y, z

disk, fed = racing.disk, racing.fed


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
