"""A durable cache that is damaged, or whose system calls fail: a miss or an error, and nothing is lost."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import (
    Codec,
    CodecError,
    DiskCache,
    Event,
    Federation,
    Record,
    StoreError,
    export,
    import_,
    invalidate,
    node,
    run,
)
from artdag_fed.caches.disk_staging import SPILL_BYTES
from tests.disk_caches import LARGE, areas, blobs, digest_of, entry, index, put


def flip(data: bytes) -> bytes:
    return data[:20] + bytes([data[20] ^ 1]) + data[21:]


def row(column: str, value: Callable[[Any], Any]) -> Callable[[DiskCache, str], None]:
    """Damage a row of the index."""

    def damage(cache: DiskCache, cid: str) -> None:
        [(was,)] = index(cache, f"SELECT {column} FROM result WHERE cid = ?", cid)
        index(cache, f"UPDATE result SET {column} = ? WHERE cid = ?", value(was), cid)

    return damage


def file(change: Callable[[Path], object]) -> Callable[[DiskCache, str], None]:
    """Damage a file beside it."""

    def damage(cache: DiskCache, cid: str) -> None:
        [(digest,)] = index(cache, "SELECT digest FROM result WHERE cid = ?", cid)
        change(Path(cache.blobs.path) / digest)

    return damage


def becomes_a_link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to("../elsewhere")


def becomes_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE: dict[str, tuple[Any, Callable[[DiskCache, str], None]]] = {
    "a bit in a row": ("small result, longer than 20", row("payload", flip)),
    "a row that ends early": ("small", row("payload", lambda was: was[:-1])),
    "a row of another type": ("small", row("payload", lambda was: "text")),
    "a row that is a number": ("small", row("payload", lambda was: 5)),
    "a row without its bytes": ("small", row("payload", lambda was: None)),
    "another digest": ("small", row("digest", lambda was: "0" * 64)),
    "another digest of a file": (LARGE, row("digest", lambda was: "0" * 64)),
    "a digest that leads elsewhere": (LARGE, row("digest", lambda was: "../../elsewhere")),
    "a digest that is none": (LARGE, row("digest", lambda was: b"\0")),
    "a size below zero": (LARGE, row("size", lambda was: -1)),
    "a size beyond all memory": (LARGE, row("size", lambda was: 1 << 62)),
    "a bit in a file": (LARGE, file(lambda path: path.write_bytes(flip(path.read_bytes())))),
    "a file that is gone": (LARGE, file(Path.unlink)),
    "a file that is longer": (LARGE, file(lambda path: path.write_bytes(path.read_bytes() + b"!"))),
    "a file that is shorter": (LARGE, file(lambda path: os.truncate(path, 100))),
    "a file without bytes": (LARGE, file(lambda path: os.truncate(path, 0))),
    "a file that became a link to one": (LARGE, file(becomes_a_link)),
    "a file that became a pipe": (LARGE, file(becomes_a_pipe)),
}


@pytest.mark.parametrize(("value", "damage"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_bytes_are_a_miss_and_an_event_and_a_run_replaces_them(
    cache: DiskCache, caplog: pytest.LogCaptureFixture, value: Any, damage: Callable[[DiskCache, str], None]
) -> None:
    fed = Federation(cache)
    below = node("below")
    target = node("op", below)
    calls: list[str] = []

    def runner(op: str, inputs: tuple[Any, ...], params: Any) -> Any:
        calls.append(op)
        return value if op == "op" else 1

    run(fed, target, runner)
    cache["other"] = LARGE + b"other"
    precious = Path(cache.path).parent / "elsewhere"
    precious.write_text("not ours")
    damage(cache, target.cid)

    events: list[Event] = []
    with caplog.at_level(logging.WARNING, logger="artdag_fed"):
        assert cache.load([target.cid, "other"], events.append).keys() == {"other"}
        assert [(e.kind, e.cid) for e in events] == [("damaged", target.cid)] and events[0].reason
        assert caplog.records == []
        assert cache.stored(target.cid) is None
        with pytest.raises(KeyError):
            cache[target.cid]
        assert {record.cid for record in export(fed, "me")} == {below.cid, "other"}
        assert len(caplog.records) == 3 and target.cid[:40] in caplog.text

    calls.clear()
    again = run(fed, target, runner, observe=events.append)
    assert (again.value, again.computed, calls) == (value, (target.cid,), ["op"])
    assert Counter(e.kind for e in events)["damaged"] >= 2
    assert cache[target.cid] == value and run(fed, target, runner).computed == ()
    cache.purge()
    cache.sweep()
    assert precious.read_text() == "not ours"
    assert cache[target.cid] == value and cache["other"] == LARGE + b"other"
    assert blobs(cache) == {digest for (digest,) in index(cache, "SELECT digest FROM result WHERE payload IS NULL")}


def test_a_peers_bytes_that_are_no_value_are_a_miss_and_an_event(cache: DiskCache) -> None:
    fed = Federation(cache)
    target = node("op")
    payload = b"T no value"
    record = Record.encoded(target.cid, payload, hashlib.sha256(payload).hexdigest(), "mallory")
    assert import_(fed, [record], lambda peer: True).report.admitted == 1
    events: list[Event] = []
    assert cache.load([target.cid], events.append) == {}
    assert [e.kind for e in events] == ["damaged"] and "no value" in events[0].reason
    done = run(fed, target, lambda *_: 5, observe=events.append)
    assert done.value == 5 and target.cid not in fed.provenance and cache[target.cid] == 5


def test_our_own_result_that_this_codec_cannot_read_is_an_error_and_nothing_is_lost(tmp_path: Path) -> None:
    class Point:
        pass

    codec = Codec().with_type("point", Point, lambda p: 1, lambda v: Point())
    cache = DiskCache(tmp_path, codec)
    cache["p"] = Point()
    other = DiskCache(tmp_path)
    for read in (lambda: other["p"], lambda: other.load(["p"])):
        with pytest.raises(CodecError):
            read()
    assert "p" in other and type(cache["p"]) is Point
    cache.close()
    other.close()


def test_a_result_that_is_replaced_between_its_row_and_its_file_is_read_anew(
    cache: DiskCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache["a"], cache["gone"] = LARGE, LARGE + b"gone"
    other, read = DiskCache(cache.path), cache.blobs.read
    todo = [lambda: other.__setitem__("a", LARGE + b"2"), lambda: other.__delitem__("gone")]

    def read_late(digest: str, size: int) -> bytes:
        while todo:
            todo.pop()()
            other.purge()
        return read(digest, size)

    monkeypatch.setattr(cache.blobs, "read", read_late)
    loaded = cache.load(["a", "gone"])
    assert {cid: value for cid, (_, value) in loaded.items()} == {"a": LARGE + b"2"}
    assert loaded["a"][0].digest == digest_of(LARGE + b"2") and caplog.records == []
    other.close()


def test_a_file_that_cannot_be_read_is_an_error_and_no_miss(cache: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache["a"] = LARGE

    def read(digest: str, size: int) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(cache.blobs, "read", read)
        for look in (lambda: cache["a"], lambda: cache.load(["a"]), lambda: cache.stored("a")):
            with pytest.raises(StoreError, match=r"the file of 'a' cannot be read: .*Input/output error") as caught:
                look()
            assert cache.path in str(caught.value)
    assert cache["a"] == LARGE


@pytest.mark.parametrize("call", ["fsync", "mkdir", "write", "replace", "unlink"])
def test_a_system_call_that_fails_while_a_large_result_is_written_is_an_error_that_loses_nothing(
    cache: DiskCache, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    cache["a"] = LARGE
    put(cache, entry(cache, "b", LARGE + b"b", "alice"))
    files = len(os.listdir("/proc/self/fd"))

    def fails(*arguments: Any, **more: Any) -> Any:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fails)
        with pytest.raises(StoreError, match="Input/output error") as caught:
            if call == "unlink":
                invalidate(Federation(cache), "alice")
            else:
                cache["a"] = LARGE + b"2"
        assert cache.path in str(caught.value)
    assert cache["a"] == LARGE and (call == "unlink") == ("b" not in cache)
    cache["a"] = LARGE + b"2"
    while cache.purge():
        pass
    cache["c"] = LARGE  # sweeps what could not be removed
    assert areas(cache) == [] and len(os.listdir("/proc/self/fd")) == files
    assert blobs(cache) == {digest for (digest,) in index(cache, "SELECT digest FROM result WHERE payload IS NULL")}


def test_rows_that_cannot_be_moved_out_of_memory_are_an_error_and_leave_no_transaction(cache: DiskCache) -> None:
    many = [entry(cache, f"c{i:05}", "x" * 1000, "alice") for i in range(2 * SPILL_BYTES // 1000)]
    many[5] = many[5]._replace(inputs_digest=object())  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(StoreError, match="What was stored before is still there"):
        cache.stage(many)
    with cache.alone() as db:
        assert not db.in_transaction
    put(cache, *many[6:])
    assert len(cache) == len(many) - 6
