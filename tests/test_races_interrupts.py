"""Ctrl-C at any moment: what was finished is kept, nothing is half done, and nothing stays open."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import DiskCache, Event, Federation, Record, forget, import_, invalidate, node, run
from artdag_fed.cache import Origin
from tests import racing
from tests.disk_caches import LARGE, check_counts
from tests.racing import Runner, anyone, others_can_write_at_once, x, y

fed = racing.fed


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
