"""What is kept as evidence of different offers: by whom, from when, how much of it, and what ends it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import (
    DiskCache,
    Federation,
    MemoryCache,
    Record,
    forget,
    hmac_signer,
    hmac_verifier,
    import_,
    invalidate,
)
from artdag_fed.cache import Changes, Entry, Origin, OriginCache, Relabel
from artdag_fed.caches import disk_offers, memory_offers
from artdag_fed.caches.disk_origins import BATCH

MOST = 100
KEYS = {"alice": b"a" * 32, "bob": b"b" * 32}


@pytest.fixture(params=["memory", "disk"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OriginCache]:
    made: Any = MemoryCache() if request.param == "memory" else DiskCache(tmp_path / "c")
    yield made
    made.close()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (disk_offers, memory_offers):
        monkeypatch.setattr(module, "MOST_OFFERS", MOST)


def offered(peer: str, *numbers: int, says: Callable[[int], Any] = lambda i: i) -> list[Record]:
    return [Record(f"c{i:05}", says(i), peer) for i in numbers]


def take(cache: OriginCache, *records: Record, **more: Any) -> Federation:
    return import_(Federation(cache), records, lambda peer: True, **more)  # type: ignore[arg-type]  # one is a cache


def lies(i: int) -> str:
    return f"not {i}"


def numbers(cache: OriginCache, peer: str | None) -> list[int]:
    """Of the offers of a peer, what about."""
    return [int(offer.cid[1:]) for offer in cache.offers() if offer.peer == peer]


# --- what an offer says -------------------------------------------------------------------------


def test_only_a_signature_that_was_verified_is_kept_with_a_result_and_its_offer(cache: OriginCache) -> None:
    signed = [r.signed(hmac_signer(KEYS["alice"])) for r in offered("alice", 1, 2)]
    take(cache, signed[0], verify=hmac_verifier(KEYS))
    take(cache, signed[1])  # nobody looked at the signature
    take(cache, *offered("bob", 1, 2, says=lies))
    assert [(o.cid, o.peer, o.signature) for o in cache.offers()] == [
        ("c00001", "alice", signed[0].signature),
        ("c00001", "bob", b""),
        ("c00002", "alice", b""),
        ("c00002", "bob", b""),
    ]


def test_a_signature_that_comes_later_is_added_to_the_offer(cache: OriginCache) -> None:
    his, hers = offered("bob", 1, says=lies), offered("alice", 1)
    take(cache, *hers, *his)
    signed = his[0].signed(hmac_signer(KEYS["bob"]))
    for _ in range(2):
        take(cache, signed, verify=hmac_verifier(KEYS))
        take(cache, *his)
        assert [(o.peer, o.signature) for o in cache.offers()] == [("alice", b""), ("bob", signed.signature)]


def test_an_offer_says_when_it_was_noted_and_how_large_it_is(cache: OriginCache) -> None:
    take(cache, *offered("alice", 1))
    before = time.time()
    take(cache, *offered("bob", 1, says=lies))
    after = time.time()
    hers, his = cache.offers()
    assert before <= hers.at == his.at <= after
    assert (hers.size, his.size) == (len(cache.codec.encode(1)), len(cache.codec.encode("not 1")))
    assert his.digest == hashlib.sha256(cache.codec.encode("not 1")).hexdigest()


def test_a_result_that_is_put_here_over_a_foreign_one_is_noted_with_the_time(cache: OriginCache) -> None:
    take(cache, *offered("alice", 1))
    before = time.time()
    cache["c00001"] = "ours"
    after = time.time()
    assert [before <= offer.at <= after for offer in cache.offers()] == [True, True]


def test_a_result_that_is_computed_here_meets_what_was_held(cache: OriginCache) -> None:
    take(cache, *offered("alice", 1, 2))
    cache["c00001"] = 1
    cache["c00002"] = "ours"
    take(cache, *offered("alice", 1, 2))
    assert [(o.cid, o.peer) for o in cache.offers()] == [
        (f"c0000{i}", peer) for i in (1, 2) for peer in (None, "alice")
    ]
    assert len({(o.cid, o.digest) for o in cache.offers()}) == 3


def test_a_result_that_gets_another_origin_does_not_keep_the_signature_for_the_former(cache: OriginCache) -> None:
    [record] = [r.signed(hmac_signer(KEYS["alice"])) for r in offered("alice", 1)]
    take(cache, record, verify=hmac_verifier(KEYS))
    [(cid, held)] = cache.held(["c00001"]).items()
    done = cache.commit(Changes(relabel={cid: Relabel(held.token, record.digest, Origin(None))}))
    assert done.relabelled == 1
    take(cache, *offered("bob", 1, says=lies))
    assert [(o.peer, o.signature) for o in cache.offers()] == [(None, b""), ("bob", b"")]


def test_an_object_without_bytes_is_offered_without_a_digest() -> None:
    cache, thing = MemoryCache(), object()
    for peer, value in (("alice", thing), ("bob", thing), ("carol", object())):
        entry = Entry("c", Origin(peer), "", None, value, True)
        cache.commit(Changes(put=cache.stage([entry])))
    assert [(o.peer, o.digest, o.size) for o in cache.offers()] == [(p, "", 0) for p in ("alice", "bob", "carol")]


# --- what ends it -------------------------------------------------------------------------------


def test_evidence_outlives_the_trust_and_the_results_and_ends_when_they_are_forgotten(cache: OriginCache) -> None:
    take(cache, *offered("alice", 1, 2, 3))
    take(cache, *offered("bob", 1, 2, 3, says=lies))
    fed = invalidate(Federation(cache), "alice")  # type: ignore[arg-type]  # it is one
    invalidate(fed, "bob", derived=True)
    assert len(cache) == 0 and len(list(cache.offers())) == 6
    forget(fed, ["c00002"])
    assert {o.cid for o in cache.offers()} == {"c00001", "c00003"}


def test_evidence_is_there_when_a_cache_is_opened_again(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "c")
    take(cache, *offered("alice", 1), *offered("bob", 1, says=lies))
    found = list(cache.offers())
    cache.close()
    assert len(found) == 2 and list(DiskCache(tmp_path / "c").offers()) == found


def test_a_damaged_row_of_an_offer_is_left_out_and_the_rest_is_told(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "c")
    take(cache, *offered("alice", *range(5)))
    take(cache, *offered("bob", *range(5), says=lies))
    for column, bad in (("lineage", "[" * 5), ("lineage", "[5]"), ("size", b"x"), ("at", b"x"), ("signature", "x")):
        with cache.alone() as db:
            db.execute(f"UPDATE offer SET {column} = ? WHERE id = (SELECT min(id) FROM offer)", (bad,))
            db.execute("UPDATE offer SET id = id + 100 WHERE id = (SELECT min(id) FROM offer)")
    assert len(list(cache.offers())) == 5
    cache.close()


# --- how much is kept ---------------------------------------------------------------------------


@pytest.mark.usefixtures("few")
def test_a_flood_by_one_peer_pushes_out_the_oldest_of_its_own_alone(cache: OriginCache) -> None:
    take(cache, *offered("alice", *range(300)))
    take(cache, *offered("bob", 0, 1, 2, 3, 4, says=lies))
    for start in range(0, 300, 10):
        take(cache, *offered("mallory", *range(start, start + 10), says=lies))
        assert len(list(cache.offers())) <= MOST
    assert numbers(cache, "bob") == [0, 1, 2, 3, 4]
    kept = numbers(cache, "mallory")
    assert kept == list(range(300 - len(kept), 300)) and len(kept) > MOST // 3
    assert numbers(cache, "alice") == [0, 1, 2, 3, 4, *kept], "what was held stays beside what it was compared with"


@pytest.mark.usefixtures("few")
def test_offers_go_only_when_there_are_too_many_of_them_however_many_came_and_went(cache: OriginCache) -> None:
    for i in range(25):
        take(cache, *offered("p0", i))
        for n in range(1, 6):
            take(cache, *offered(f"p{n}", i, says=lambda i, n=n: n))  # type: ignore[misc]  # a default binds it now
        if i >= 10:
            forget(Federation(cache), [f"c{i - 9:05}"])  # type: ignore[arg-type]  # it is one
        assert len(list(cache.offers(["c00000"]))) == 6, "what is oldest, while there is room"
    assert len(list(cache.offers())) == 60


@pytest.mark.usefixtures("few")
def test_what_agrees_goes_before_what_differs(cache: OriginCache) -> None:
    take(cache, *offered("alice", *range(300)))
    take(cache, *offered("bob", 7, 8, 9, says=lies))
    for start in range(0, 300, 10):
        take(cache, *offered("bob", *(i for i in range(start, start + 10) if i not in (7, 8, 9))))
    assert numbers(cache, "bob")[:3] == [7, 8, 9] and len(list(cache.offers())) <= MOST


@pytest.mark.usefixtures("few")
def test_of_one_commit_no_more_is_kept_than_fits(cache: OriginCache) -> None:
    take(cache, *offered("alice", *range(300)))
    take(cache, *offered("bob", 1, says=lies))
    take(cache, *offered("carol", *range(300), says=lambda i: lies(i) if i < 20 else i))
    assert len(list(cache.offers())) <= MOST
    assert numbers(cache, "bob") == [1] and numbers(cache, "carol")[:20] == list(range(20))


@pytest.mark.usefixtures("few")
def test_what_was_held_and_withdrawn_again_and_again_is_bounded_too(cache: OriginCache) -> None:
    for i in range(MOST):
        take(cache, *offered(f"peer{i}", 1))
        take(cache, *offered("bob", 1, says=lies))
        invalidate(Federation(cache), f"peer{i}")  # type: ignore[arg-type]  # it is one
        invalidate(Federation(cache), "bob")  # type: ignore[arg-type]  # it is one
        take(cache, *offered(f"peer{i}", 2))
        take(cache, *offered("zoe", 2, says=lies))
        forget(Federation(cache), ["c00002"])  # type: ignore[arg-type]  # it is one
        assert len(list(cache.offers())) <= MOST
    assert len(list(cache.offers())) > MOST // 3


def test_more_offers_than_one_batch_are_told_in_order(cache: OriginCache) -> None:
    n = BATCH + BATCH // 2
    take(cache, *offered("alice", *range(n)))
    take(cache, *offered("bob", *range(n)))
    found = [(o.cid, o.peer) for o in cache.offers()]
    assert found == [(f"c{i:05}", peer) for i in range(n) for peer in ("alice", "bob")]
    assert [(o.cid, o.peer) for o in cache.offers(f"c{i:05}" for i in reversed(range(n)))] == found
