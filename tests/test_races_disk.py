"""Two at once on one durable cache: sweeps against staged files, slow readers against writers; never with sleeps."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from artdag_fed import DiskCache, Federation, Record, StoreError, export, forget, import_, invalidate, node, run
from artdag_fed.cache import Changes
from artdag_fed.caches import disk_index
from artdag_fed.caches.disk_blobs import Area
from tests import racing
from tests.children import Child
from tests.disk_caches import LARGE, blobs, check_counts, entry
from tests.racing import HOW, Runner, anyone, elsewhere, others_can_write_at_once, z

disk = racing.disk


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
