"""A durable cache in use: where results lie, and what its counts and views say of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import DiskCache, Federation, Record, forget, import_, invalidate, node, run
from artdag_fed.cache import Changes, Origin
from artdag_fed.caches import disk_staging
from artdag_fed.caches.disk_staging import INLINE_BYTES, SPILL_BYTES
from tests.disk_caches import LARGE, areas, blobs, check_counts, digest_of, entry, index, put

# --- large results ------------------------------------------------------------------------------


def test_results_over_a_threshold_lie_beside_the_index_and_others_in_it(cache: DiskCache) -> None:
    for size in (0, 1, INLINE_BYTES - 1, INLINE_BYTES, 10 * INLINE_BYTES):
        value = b"x" * size  # one byte more when it is encoded
        cache[f"c{size}"] = value
        assert cache[f"c{size}"] == value
        assert (digest_of(value) in blobs(cache)) == (size >= INLINE_BYTES)
    assert len(blobs(cache)) == 2 and areas(cache) == []


def test_files_are_removed_after_their_last_result_went(cache: DiskCache) -> None:
    fed = Federation(cache)
    cache["a"] = cache["b"] = LARGE
    import_(fed, [Record("c", LARGE, "alice"), Record("d", LARGE + b"d", "alice")], lambda peer: True)
    assert blobs(cache) == {digest_of(LARGE), digest_of(LARGE + b"d")}
    invalidate(fed, "alice")
    assert blobs(cache) == {digest_of(LARGE)} and cache["a"] == cache["b"] == LARGE
    forget(fed, ["a"])
    assert blobs(cache) == {digest_of(LARGE)} and cache["b"] == LARGE
    cache["b"] = "small"
    assert not cache.purge() and blobs(cache) == set() and cache["b"] == "small"
    check_counts(cache)


def test_one_commit_may_have_one_large_result_under_several_cids(cache: DiskCache) -> None:
    put(cache, *(entry(cache, f"c{i}", LARGE, "alice") for i in range(5)))
    assert blobs(cache) == {digest_of(LARGE)} and all(cache[f"c{i}"] == LARGE for i in range(5))


def test_what_a_commit_does_not_store_leaves_no_file(cache: DiskCache) -> None:
    cache["a"] = 1
    put(cache, entry(cache, "a", LARGE, "alice"))
    assert blobs(cache) == set() and areas(cache) == []
    staged = cache.stage([entry(cache, "b", LARGE, "alice")])
    assert len(areas(cache)) == 2
    staged.close()
    assert blobs(cache) == set() and areas(cache) == []


def test_more_than_fits_into_memory_is_staged_and_leaves_no_table_behind(cache: DiskCache) -> None:
    def tables() -> set[str]:
        with cache.alone() as db:
            return {name for (name,) in db.execute("SELECT name FROM sqlite_temp_master")}

    many = [entry(cache, f"c{i:05}", "x" * 1000, "alice") for i in range(3 * SPILL_BYTES // 1000)]
    thrown_away = cache.stage(many)
    assert tables() - {"staged", "origin_of_kind", "offering", "met"}
    thrown_away.close()
    assert tables() <= {"staged", "origin_of_kind", "offering", "met"} and len(cache) == 0
    put(cache, *many, *many[:10])
    assert tables() <= {"staged", "origin_of_kind", "offering", "met"} and len(cache) == len(many)
    check_counts(cache)


@pytest.mark.parametrize("spills", [False, True])
def test_signed_and_unsigned_results_share_a_commit(
    cache: DiskCache, spills: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if spills:
        monkeypatch.setattr(disk_staging, "SPILL_BYTES", 3000)
    signed = {f"c{i:03}": b"signed" * (i % 3) for i in range(300)}
    inserted: list[str] = []
    with cache.alone() as db:
        db.set_trace_callback(lambda sql: inserted.append(sql) if sql.startswith("INSERT OR IGNORE INTO res") else None)
    put(cache, *(entry(cache, cid, cid, "alice", signature=by, seconds=0.5) for cid, by in signed.items()))
    assert len(inserted) <= 5  # and not one for each that is signed otherwise than the one before
    made = cache.made(signed)
    assert {cid: one.signature for cid, one in made.items()} == signed
    assert list(dict(cache.inventory())) == list(signed) and dict(cache) == {cid: cid for cid in signed}
    assert cache.origins()[Origin("alice")] == (300, sum(one.size for one in made.values()), 150.0)
    check_counts(cache)


def test_a_new_cache_is_not_asked_about_all(cache: DiskCache) -> None:
    asked: list[str] = []
    with cache.alone() as db:
        db.set_trace_callback(asked.append)
    many = [f"c{i}" for i in range(50_000)]
    assert cache.held(many) == {} and len(asked) == 2
    cache["c49999"] = 1
    assert set(cache.held(many)) == {"c49999"}


def test_no_seconds_are_left_of_no_results(cache: DiskCache) -> None:
    for seconds in (0.1, 0.2, 0.3):
        put(cache, entry(cache, f"c{seconds}", 1, "alice", seconds=seconds))
    assert 0.1 + 0.2 + 0.3 - 0.3 - 0.2 - 0.1 != 0.0
    for seconds in (0.3, 0.2, 0.1):
        del cache[f"c{seconds}"]
        check_counts(cache)


# --- counts and views ---------------------------------------------------------------------------


def test_the_counts_of_origins_are_exact_after_every_kind_of_change(cache: DiskCache) -> None:
    fed = Federation(cache)

    def alices(count: int, start: int = 0) -> list[Record]:
        sizes = {3: 40_000}
        return [Record(f"a{i}", "x" * sizes.get(i, i), "alice", {"bob"}) for i in range(start, start + count)]

    steps: list[tuple[Callable[[], Any], dict[Origin, int]]] = []
    local, alice, carol = Origin(None), Origin("alice", frozenset({"bob"})), Origin("carol")
    steps += [(lambda: cache.__setitem__("l", LARGE), {local: 1})]
    steps += [(lambda: import_(fed, alices(10), lambda peer: True), {local: 1, alice: 10})]
    steps += [(lambda: import_(fed, alices(12) * 2, lambda peer: True), {local: 1, alice: 12})]
    carols = [Record("a1", 1, "carol"), Record("k", 1, "carol")]
    steps += [(lambda: import_(fed, carols, lambda peer: True), {local: 1, alice: 12, carol: 1})]
    steps += [(lambda: cache.__setitem__("a3", 5), {local: 2, alice: 11, carol: 1})]
    steps += [(lambda: cache.__setitem__("a3", "longer"), {local: 2, alice: 11, carol: 1})]
    steps += [(lambda: cache.__delitem__("a4"), {local: 2, alice: 10, carol: 1})]
    steps += [(lambda: forget(fed, ["l", "k", "none"]), {local: 1, alice: 10})]
    steps += [(lambda: cache.commit(Changes(withdraw=lambda o: o.peer == "alice")), {local: 1})]
    steps += [(lambda: import_(fed, alices(3), lambda peer: True), {local: 1, alice: 3})]
    steps += [(cache.purge, {local: 1, alice: 3})]
    steps += [(lambda: run(fed, node("op"), lambda *_: 1), {local: 2, alice: 3})]
    steps += [(lambda: run(fed, node("op"), lambda *_: LARGE, refresh=True), {local: 2, alice: 3})]
    steps += [(lambda: invalidate(fed, "bob", derived=True), {local: 2})]
    for number, (step, expected) in enumerate(steps):
        step()
        assert {o: total.results for o, total in cache.origins().items()} == expected, f"step {number}"
        check_counts(cache)
    assert index(cache, "SELECT count(*) FROM result") == [(2,)]


def test_an_origin_that_brought_nothing_leaves_no_trace_and_one_that_was_read_of_stays(cache: DiskCache) -> None:
    def peers() -> list[str]:
        return [peer for (peer,) in index(cache, "SELECT peer FROM origin WHERE peer IS NOT NULL ORDER BY id")]

    cache["mine"] = 1
    put(cache, entry(cache, "mine", 1, "bob"))
    assert peers() == []
    put(cache, entry(cache, "a", 1, "alice"))
    reading = DiskCache(cache.path)
    token = reading.held(["a"])["a"].token
    reading._origins.clear()  # as if it had read the row, and not yet whence it came
    del cache["a"]
    put(cache, entry(cache, "mine", 1, "alice"), entry(cache, "mine", 1, "bob"))
    assert reading._origin(token) == Origin("alice") and peers() == ["alice"]
    reading.close()


def test_provenance_and_lineage_are_live_views(cache: DiskCache) -> None:
    fed = Federation(cache)
    provenance, lineage = fed.provenance, fed.lineage
    assert (len(provenance), len(lineage), dict(provenance), list(lineage)) == (0, 0, {}, [])
    cache["mine"] = 1
    put(cache, entry(cache, "a", 1, "alice"), entry(cache, "b", 1, "bob", "alice"), entry(cache, "d", 1, None, "bob"))
    assert dict(provenance) == dict(provenance.items()) == {"a": "alice", "b": "bob"}
    assert dict(lineage) == dict(lineage.items()) == {"b": frozenset({"alice"}), "d": frozenset({"bob"})}
    assert sorted(provenance.values()) == ["alice", "bob"] and sorted(provenance.keys()) == ["a", "b"]
    assert len(provenance) == len(provenance.items()) == len(lineage.values()) == 2
    assert "a" in provenance and "mine" not in provenance and "d" not in provenance
    assert ("a", "alice") in provenance.items() and "alice" in provenance.values()
    assert provenance.get("mine", "nobody") == "nobody" and provenance["b"] == "bob"
    for absent in ("mine", "none", 5):
        with pytest.raises(KeyError):
            provenance[absent]  # type: ignore[index]  # one is wrong on purpose
    assert provenance == {"a": "alice", "b": "bob"} and provenance != {"a": "alice"}
    assert repr(provenance) == f"<live view of 2 results in {cache!r}>"
    with pytest.raises(TypeError):
        provenance["a"] = "mallory"  # type: ignore[index]  # cannot be written, which is what is tested
    walking = provenance.items()
    invalidate(fed, "alice")
    assert dict(provenance) == dict(walking) == {"b": "bob"}


def test_a_view_that_is_walked_while_results_go_leaves_them_out(cache: DiskCache) -> None:
    put(cache, *(entry(cache, f"c{i:04}", 1, "alice") for i in range(2500)))
    seen = []
    for cid, peer in Federation(cache).provenance.items():
        seen.append((cid, peer))
        if len(seen) == 10:
            cache.commit(Changes(drop=frozenset(f"c{i:04}" for i in range(500, 2500))))
    assert all(peer == "alice" for _, peer in seen) and 500 <= len(seen) <= 1500
    assert len({cid for cid, _ in seen}) == len(seen)


def test_two_values_over_one_durable_cache_are_equal(cache: DiskCache, tmp_path: Path) -> None:
    fed = Federation(cache)
    later = import_(fed, [Record("a", 1, "alice")], lambda peer: True)
    again, other = DiskCache(cache.path), DiskCache(tmp_path / "other")
    assert fed == later == Federation(again) and fed.report != later.report
    assert Federation(other) != fed and cache != other and cache != {"a": 1}
    with pytest.raises(ValueError, match="keeps provenance and lineage itself"):
        Federation(cache, provenance={"a": "alice"})
    again.close()
    other.close()
