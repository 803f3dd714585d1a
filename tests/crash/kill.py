"""Every point at which a verb can be killed, and what is found after one.

Rules: points are counted in a run that is not killed, and each is named by a number; a kill happens in a child on a
copy of the folder, and the parent judges what it left. Points are of three kinds: "statement", the start of an SQL
statement; "step", a step of SQLite's virtual machine; "call", a system call that writes, just before it happens
(strace). strace counts per thread and call: so each call is killed in a run where one thread does everything ("call"),
and again with the threads as they are ("call, threads"), where the one who gets there first dies.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from artdag_fed import DiskCache
from tests.crash.check import State, complaints, look
from tests.crash.child import WRITING, Strace, dies_at, start
from tests.crash.work import JOBS, Job, perform, prepare

__all__ = ["KINDS", "Found", "Point", "Starts", "attempt", "points_of_calls", "points_of_sql", "states_of"]

KINDS = ("statement", "step", "call", "call, threads")

TRACED = "trace=" + ",".join("?" + call for call in WRITING)  # "?": not every machine has each of them


class Point(NamedTuple):
    """Where to kill: the number of a statement or step, or of a system call by its name."""

    job: Job
    kind: str
    number: int
    call: str = ""

    def __str__(self) -> str:
        return f"{self.job.name}, {self.kind} {self.call} {self.number}".replace("  ", " ")


class Found(NamedTuple):
    """What came of an attempt: whether the child was killed there, and what was wrong afterwards."""

    point: Point
    killed: bool
    complaints: list[str]


class Starts:
    """The prepared folders, and copies of them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.home.mkdir(exist_ok=True)

    def prepare(self) -> None:
        """Make them: "full", and "crashed", which was killed in its commit with half of it in the index."""
        prepare(self.home / "full")
        job = next(job for job in JOBS if job.name == "import")
        folder = self.home / "crashed"
        shutil.copytree(self.home / "full", folder)
        dies = dies_at(text="COMMIT")

        def arm(cache: DiskCache) -> None:
            with cache.alone() as db:
                db.execute("PRAGMA cache_size=1")  # so that pages are written before the commit
            dies(cache)

        status, reported = start(job, folder, arm=arm).ended()
        journal = (folder / "index.sqlite3-journal").stat().st_size
        assert (status, reported) == (-signal.SIGKILL, 0) and journal, "the crashed folder has to need a rollback"

    def copy(self, job: Job, to: Path) -> None:
        if to.exists():
            shutil.rmtree(to)
        if job.start != "none":
            shutil.copytree(self.home / job.start, to)


# --- where ------------------------------------------------------------------------------------


def states_of(job: Job, starts: Starts, scratch: Path) -> list[State]:
    """What is held before the job, and after each of its commits."""
    states: list[State] = []
    folder = scratch / "states"

    def note() -> None:
        watcher = DiskCache(folder)
        states.append(look(watcher))
        watcher.close()

    starts.copy(job, folder)
    if job.start == "none":
        states.append(frozenset())
    else:
        note()
        starts.copy(job, folder)  # to look at a crashed one is to roll it back
    perform(job, folder, note)
    note()
    assert states.pop() == states[-1], f"{job.name} changes what is held after its last commit"
    return states


def points_of_sql(job: Job, starts: Starts, scratch: Path, kind: type[DiskCache] = DiskCache) -> list[Point]:
    """Every statement and every step."""
    folder = scratch / "points"
    starts.copy(job, folder)
    counts = Counter[str]()

    def ready(cache: DiskCache | None) -> None:
        if cache is None:
            return
        with cache.alone() as db:
            db.set_trace_callback(lambda sql: counts.update(["statement"]))
            db.set_progress_handler(lambda: counts.update(["step"]), 1)

    perform(job, folder, lambda: None, kind=kind, ready=ready)
    return [Point(job, what, number) for what in ("statement", "step") for number in range(1, counts[what] + 1)]


def points_of_calls(job: Job, starts: Starts, scratch: Path) -> list[Point]:
    """Every system call that writes; `NoStrace` where it cannot watch."""
    found = []
    for kind in ("call", "call, threads"):
        folder, written = scratch / "points", scratch / "trace"
        starts.copy(job, folder)
        child = start(job, folder, waits=True, threads=kind != "call")
        strace = Strace(child, "-e", TRACED, to=written)
        status, _ = child.ended()
        said = strace.said()
        assert status == 0, f"{job.name} ended with {status} under strace {said}"
        counts = Counter(_calls(written.read_text("utf-8", "replace")))
        most = Counter[str]()
        for (_, call), count in counts.items():
            most[call] = max(most[call], count)
        found += [Point(job, kind, number, call) for call, count in most.items() for number in range(1, count + 1)]
    return found


def _calls(trace: str) -> Iterator[tuple[str, str]]:
    """The thread and the name of each call in what strace wrote."""
    for line in trace.splitlines():
        if match := re.match(r"(\d+) +(\w+)\(", line):
            yield match[1], match[2]


# --- what happens there -----------------------------------------------------------------------


def attempt(
    point: Point, starts: Starts, states: list[State], scratch: Path, kind: type[DiskCache] = DiskCache
) -> Found:
    """Kill the job at a point and judge what is left."""
    folder = scratch / "killed"
    starts.copy(point.job, folder)
    if point.call:
        child = start(point.job, folder, kind=kind, waits=True, threads=point.kind != "call")
        inject = f"inject={point.call}:signal=KILL:when={point.number}"
        strace = Strace(child, "-e", f"trace={point.call}", "-e", inject, to=scratch / "trace")
        status, reported = child.ended()
        strace.said()
    else:
        arm = dies_at(statement=point.number) if point.kind == "statement" else dies_at(step=point.number)
        status, reported = start(point.job, folder, kind=kind, arm=arm).ended()
    found = [] if status in (0, -signal.SIGKILL) else [f"follow-up: the verb itself ended with {status}"]
    if not (status == 0 and reported != len(states) - 1):
        found += complaints(folder, states, reported)
    else:
        found.append(f"follow-up: {reported} commits were reported, not {len(states) - 1}")
    return Found(point, status == -signal.SIGKILL, found)
