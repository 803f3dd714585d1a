"""A durable cache in use: large results, damage, forks, threads and processes, and what is left behind: nothing."""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import random
import signal
import sqlite3
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
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
    forget,
    import_,
    invalidate,
    node,
    run,
)
from artdag_fed.cache import Changes, Entry, Origin
from artdag_fed.caches.disk_staging import INLINE_BYTES, SPILL_BYTES
from tests.children import Child

LARGE = b"large" * 20_000


# --- what the tests share -----------------------------------------------------------------------


class Signal:
    """Something that one process can wait for until another, forked from it or its parent, says it."""

    def __init__(self) -> None:
        self._wait, self._say = os.pipe()

    def say(self) -> None:
        os.write(self._say, b"!")

    def wait(self) -> None:
        assert os.read(self._wait, 1) == b"!"

    def __del__(self) -> None:
        os.close(self._wait)
        os.close(self._say)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[DiskCache]:
    cache = DiskCache(tmp_path / "c")
    yield cache
    cache.close()


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


def test_no_seconds_are_left_of_no_results(cache: DiskCache) -> None:
    for seconds in (0.1, 0.2, 0.3):
        put(cache, entry(cache, f"c{seconds}", 1, "alice", seconds=seconds))
    assert 0.1 + 0.2 + 0.3 - 0.3 - 0.2 - 0.1 != 0.0
    for seconds in (0.3, 0.2, 0.1):
        del cache[f"c{seconds}"]
        check_counts(cache)


# --- damage -------------------------------------------------------------------------------------


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


# --- processes and threads ----------------------------------------------------------------------


def test_a_forked_child_may_use_the_cache_and_its_parent_goes_on(cache: DiskCache) -> None:
    cache["before"] = 1
    ready, go = Signal(), Signal()

    def in_the_child() -> list[Any]:
        start = threading.Barrier(4)
        seen: list[Any] = []

        def work(me: int) -> None:
            start.wait()  # the first use after the fork, by several threads at once
            seen.append(cache["before"])
            cache[f"child{me}"] = LARGE + bytes([me])

        threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ready.say()
        go.wait()
        seen.append(cache["parent"])
        seen.append(Child(lambda: cache["child0"] == LARGE + b"\0").result())
        cache.close()
        with pytest.raises(StoreError, match="was closed"):
            len(cache)
        return seen

    child = Child(in_the_child)
    ready.wait()
    assert cache["child3"] == LARGE + b"\3"
    cache["parent"] = 2
    go.say()
    assert child.result() == [1, 1, 1, 1, 2, True]
    cache["after"] = 3
    assert sorted(cache) == ["after", "before", "child0", "child1", "child2", "child3", "parent"]
    check_counts(cache)


def test_a_child_leaves_its_parents_connection_alone(cache: DiskCache) -> None:
    cache["a"] = 1
    with cache.alone() as db:
        parents = db
    cache._pid = -1  # as if it had been forked
    assert cache["a"] == 1
    cache["b"] = 2
    with cache.alone() as db:
        assert db is not parents
    cache.close()
    assert parents.execute("SELECT count(*) FROM result").fetchone() == (2,)
    parents.close()


def test_a_cache_that_was_closed_before_a_fork_stays_closed(cache: DiskCache) -> None:
    cache.close()

    def use() -> None:
        with pytest.raises(StoreError, match="was closed"):
            cache["a"]

    Child(use).result()


def busy(path: str, seed: int, seconds: float) -> int:
    """Six threads do everything at once to one cache for a while; how much was done. Raises what one of them raised."""
    cache = DiskCache(path)
    fed = Federation(cache)
    errors: list[str] = []
    done = Counter[str]()
    until = time.monotonic() + seconds
    start = threading.Barrier(6)

    def runner(op: str, inputs: tuple[Any, ...], params: Any) -> Any:
        return [op, len(inputs)] if params["n"] % 3 else LARGE + bytes([params["n"]])

    def work(me: int) -> None:
        rng = random.Random(f"{seed}.{me}")
        start.wait()
        while time.monotonic() < until:
            what = rng.choice(["import", "import", "run", "run", "invalidate", "derived", "read", "export", "local"])
            peer, n = rng.choice("abc"), rng.randrange(12)
            inputs = [node("in", n=rng.randrange(12)) for _ in range(2)]
            if what == "import":
                results = {i: runner("in", (), {"n": i}) for i in range(n)}
                records = [Record(node("in", n=i).cid, r, peer, {"z"}) for i, r in results.items()]
                import_(fed, records, lambda peer: True)
            elif what == "run":
                assert run(fed, node("out", *inputs, n=n), runner).value == runner("out", (0, 0), {"n": n})
            elif what in ("invalidate", "derived"):
                invalidate(fed, peer, derived=what == "derived")
            elif what == "read":
                for cid, (held, _) in cache.load(list(cache)).items():
                    assert held.origin.peer in (None, "a", "b", "c"), cid
                assert {p for _, p in fed.provenance.items()} <= set("abc")
                assert all(fed.lineage.values())
            elif what == "export":
                assert all(record.digest == digest_of(record.result) for record in export(fed, "me"))
            else:
                cache[f"local{n}"] = LARGE + bytes([n])
                forget(fed, [f"local{rng.randrange(12)}"])
            done[what] += 1

    def guarded(me: int) -> None:
        try:
            work(me)
        except BaseException:
            errors.append(traceback.format_exc())

    threads = [threading.Thread(target=guarded, args=(me,)) for me in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache.close()
    assert not errors, "\n".join(errors)
    return done.total()


def all_together(cache: DiskCache, caplog: pytest.LogCaptureFixture, seconds: float, processes: int) -> None:
    children = [Child(lambda seed=seed: busy(cache.path, seed, seconds)) for seed in range(processes)]  # type: ignore[misc]  # a default binds the seed
    done = [child.result() for child in children]
    assert all(count > 10 for count in done)
    while cache.purge():
        pass
    check_counts(cache)
    named = {digest for (digest,) in index(cache, "SELECT digest FROM result WHERE payload IS NULL")}
    assert areas(cache) == [] and blobs(cache) == named
    for cid in list(cache):
        assert cache.stored(cid) is not None
    assert caplog.records == []


def test_two_processes_with_six_threads_each_use_one_cache_at_once(
    cache: DiskCache, caplog: pytest.LogCaptureFixture
) -> None:
    all_together(cache, caplog, 2, 2)


@pytest.mark.slow
def test_four_processes_with_six_threads_each_use_one_cache_for_long(
    cache: DiskCache, caplog: pytest.LogCaptureFixture
) -> None:
    all_together(cache, caplog, 40, 4)


# --- what others left ---------------------------------------------------------------------------


def test_what_a_killed_process_had_staged_is_swept_by_the_next_large_write(cache: DiskCache) -> None:
    def stage_and_die() -> None:
        cache.stage([entry(cache, f"c{i}", LARGE + bytes([i]), "alice") for i in range(3)])
        os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        stage_and_die()
    os.waitpid(pid, 0)
    assert len(areas(cache)) == 2 and len(cache) == 0
    (Path(cache.blobs.path) / ("a" * 64)).write_bytes(b"published, and its row never committed")
    cache["small"] = 1  # sweeps nothing: what is small needs no staging area
    assert len(areas(cache)) == 2
    cache["large"] = LARGE
    assert areas(cache) == [] and blobs(cache) == {digest_of(LARGE)} and cache["large"] == LARGE


def test_what_a_live_process_has_staged_is_left_alone(cache: DiskCache) -> None:
    ready, go = Signal(), Signal()

    def stage_and_commit() -> None:
        staged = cache.stage([entry(cache, "theirs", LARGE, "alice")])
        ready.say()
        go.wait()
        cache.commit(Changes(put=staged))

    child = Child(stage_and_commit)
    ready.wait()
    assert len(areas(cache)) == 2
    cache["mine"] = LARGE + b"mine"
    cache.sweep()
    assert len(areas(cache)) == 2
    go.say()
    child.result()
    assert cache["theirs"] == LARGE and cache["mine"] == LARGE + b"mine" and areas(cache) == []


# --- letting go ---------------------------------------------------------------------------------


def test_a_closed_cache_says_so(cache: DiskCache) -> None:
    cache["a"] = LARGE
    fed = Federation(cache)
    bundle, view = export(fed, "me"), fed.provenance
    for _ in range(2):
        cache.close()
    for use in (
        lambda: cache["a"],
        lambda: cache.__setitem__("b", 1),
        lambda: cache.__setitem__("b", LARGE),
        lambda: len(cache),
        lambda: list(cache),
        lambda: list(bundle),
        lambda: len(view),
        lambda: list(view.items()),
        lambda: invalidate(fed, "alice"),
        cache.purge,
        cache.sweep,
    ):
        with pytest.raises(StoreError, match="was closed: open it again"):
            use()
    again = DiskCache(cache.path)
    assert list(again) == ["a"] and areas(again) == []
    again.close()


def test_no_files_and_threads_stay_open(tmp_path: Path) -> None:
    def files() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    DiskCache(tmp_path).close()
    before, threads = files(), threading.active_count()
    for i in range(3):
        cache = DiskCache(tmp_path)
        opened = files()
        fed = Federation(cache)
        for k in range(10):
            cache[f"c{k}"] = LARGE + bytes([i, k])
            assert cache[f"c{k}"] == LARGE + bytes([i, k])
        run(fed, node("op", i=i), lambda *_: LARGE)

        def broken() -> Iterator[Record]:
            for k in range(10):
                yield Record(f"b{k}", LARGE + bytes([k]), "alice")
            raise OSError("the road is gone")

        with pytest.raises(OSError, match="the road is gone"):
            import_(fed, broken(), lambda peer: True)
        Path(cache.blobs.path, digest_of(LARGE + bytes([i, 1]))).unlink()
        assert "c1" not in {r.cid for r in export(fed, "me")}
        assert threading.active_count() == threads
        assert files() <= opened + 1  # SQLite keeps the journal open, once there is one
        if i < 2:
            cache.close()
        else:  # forgotten without a word, or a warning
            del cache, fed
        assert files() == before


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
