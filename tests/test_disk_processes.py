"""A durable cache among forks, threads and processes, and what is left behind: nothing."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import DiskCache, Federation, Record, StoreError, export, forget, import_, invalidate, node, run
from artdag_fed.cache import Changes
from tests.children import Child
from tests.disk_caches import LARGE, areas, blobs, check_counts, digest_of, entry, index


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
