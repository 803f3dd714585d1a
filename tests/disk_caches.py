"""Durable caches of the tests: what is put into them, and how another program would look at them or alter them."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Any

from artdag_fed import Codec, DiskCache, Federation, Record, import_, invalidate
from artdag_fed.cache import Changes, Entry, Origin

LARGE = b"large" * 20_000


def entry(cache: DiskCache, cid: str, value: Any, peer: str | None = None, *lineage: str, **more: Any) -> Entry:
    payload = cache.codec.encode(value)
    digest = hashlib.sha256(payload).hexdigest()
    return Entry(cid, Origin(peer, frozenset(lineage)), digest, payload, None, False, **more)


def put(cache: DiskCache, *entries: Entry) -> None:
    cache.commit(Changes(put=cache.stage(entries)))


def blobs(cache: DiskCache) -> set[str]:
    return {name for name in os.listdir(cache.blobs.path) if name != "staging"}


def areas(cache: DiskCache) -> list[str]:
    return os.listdir(cache.blobs.staging)


def digest_of(value: Any) -> str:
    return hashlib.sha256(Codec().encode(value)).hexdigest()


def index(cache: DiskCache, statement: str, *values: Any) -> list[Any]:
    """Ask or change the index as another program could."""
    db = sqlite3.connect(os.path.join(cache.path, "index.sqlite3"), isolation_level=None)
    try:
        return db.execute(statement, values).fetchall()
    finally:
        db.close()


def check_counts(cache: DiskCache) -> None:
    """Each origin's counts are those of its rows, and no row is without an origin."""
    kept = index(cache, "SELECT id, results, bytes FROM origin WHERE results <> 0 OR bytes <> 0 ORDER BY id")
    rows = index(cache, "SELECT origin, count(*), sum(size) FROM result GROUP BY origin ORDER BY origin")
    assert kept == rows
    assert index(cache, "SELECT id FROM origin WHERE results = 0 AND seconds <> 0") == []
    assert index(cache, "PRAGMA integrity_check") == [("ok",)]
    assert len(cache) == sum(total.results for total in cache.origins().values()) == len(list(cache))


def tree(place: Path) -> dict[str, Any]:
    """Everything in a place: names, kinds, bytes and times. A folder's time shows files that came and went, too."""
    found = {}
    for path in [place, *sorted(place.rglob("*"))]:
        stat = path.lstat()
        kind: Any = "folder" if path.is_dir() else stat.st_size
        if path.is_symlink():
            kind = os.readlink(path)
        elif path.is_file():
            kind = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(place))] = (kind, stat.st_mode, stat.st_mtime_ns, stat.st_ino)
    return found


def fill(folder: Path) -> dict[str, Any]:
    """Make a cache with a little of everything; what it holds afterwards."""
    cache = DiskCache(folder)
    fed = Federation(cache)
    cache["mine"], cache["mine.large"] = [1, None], LARGE
    records = [Record("a1", "x", "alice"), Record("a2", LARGE + b"2", "alice", {"bob"}), Record("m", 1, "mallory")]
    invalidate(import_(fed, records, lambda peer: True), "mallory")
    held = {cid: cache[cid] for cid in cache}
    cache.close()
    assert sorted(held) == ["a1", "a2", "mine", "mine.large"]
    return held


def contents(folder: Path) -> dict[str, Any]:
    cache = DiskCache(folder)
    try:
        return {cid: cache[cid] for cid in cache}
    finally:
        cache.close()
