"""The crash sweep: `python -m tests.crash.sweep [--budget N] [--seed S]`.

SIGKILL at every SQL statement, every step of SQLite's virtual machine and every writing system call of each job, and
after each the checks of `check`; then the same on a cache that is wrong on purpose, where violations have to be found.
With a budget that many points are tried, spread evenly over each kind. Ends with 1 where there are violations, or where
the wrong cache gets away.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from artdag_fed import DiskCache
from tests.crash.check import State
from tests.crash.child import NoStrace
from tests.crash.cores import spread
from tests.crash.kill import KINDS, Found, Point, Starts, attempt, points_of_calls, points_of_sql, states_of
from tests.crash.two_step import TwoStepCache
from tests.crash.work import JOBS, Job

__all__ = ["evenly", "main", "scratch_folder"]

T = TypeVar("T")

SHOWN = 20  # violations that are printed; all are counted
WRONG_POINTS = 400  # points at which the wrong cache is killed


def scratch_folder() -> str:
    """A place for thousands of small folders: in memory where that can be had, since nothing here cuts the power."""
    return tempfile.mkdtemp(prefix="crash-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def evenly(items: Sequence[T], count: int, seed: int) -> list[T]:
    """`count` of the items (or all), evenly spread; the seed says where the first one is."""
    if count >= len(items):
        return list(items)
    begin = random.Random(seed).random()
    return [items[int((i + begin) * len(items) / count)] for i in range(count)]


def chosen(points: Sequence[Point], budget: int | None, seed: int) -> list[Point]:
    """The points to try: all, or as many as the budget says, kinds with few points first."""
    if budget is None:
        return list(points)
    by_kind = sorted(([p for p in points if p.kind == kind] for kind in KINDS), key=len)
    found: list[Point] = []
    for i, of_kind in enumerate(by_kind):
        found += evenly(of_kind, (budget - len(found)) // (len(by_kind) - i), seed)
    return found


def one(point: Point, home: Path, states: dict[str, list[State]], kind: type[DiskCache]) -> Found:
    """One attempt, in a worker with a place of its own."""
    scratch = home / f"worker-{os.getpid()}"
    scratch.mkdir(exist_ok=True)
    return attempt(point, Starts(home / "starts"), states[point.job.name], scratch, kind)


def all_of(
    points: Sequence[Point], home: Path, states: dict[str, list[State]], kind: type[DiskCache]
) -> Iterator[Found]:
    """Every point, on all cores."""
    return spread(lambda point: one(point, home, states, kind), points)


def table(jobs: Iterable[Job], found: Sequence[Found]) -> None:
    print(f"  {'points killed at':20}" + "".join(f"{kind:>15}" for kind in KINDS) + f"{'violations':>15}")
    killed = Counter((f.point.job.name, f.point.kind) for f in found if f.killed)
    broken = Counter(f.point.job.name for f in found if f.complaints)
    for job in jobs:
        print(f"  {job.name:20}" + "".join(f"{killed[job.name, k]:15,}" for k in KINDS) + f"{broken[job.name]:15,}")
    sums = (sum(n for (_, k), n in killed.items() if k == kind) for kind in KINDS)
    print(f"  {'all':20}" + "".join(f"{n:15,}" for n in sums) + f"{broken.total():15,}")
    late = sum(1 for f in found if not f.killed)
    if late:
        print(f"  {late} more were over before their point came (checked all the same)")


def sweep(home: Path, budget: int | None, seed: int) -> bool:
    """Whether everything is as it should be."""
    began = time.monotonic()
    starts = Starts(home / "starts")
    starts.prepare()
    states = {job.name: states_of(job, starts, home) for job in JOBS}
    points = [point for job in JOBS for point in points_of_sql(job, starts, home)]
    try:
        points += [point for job in JOBS for point in points_of_calls(job, starts, home)]
    except NoStrace as error:
        print(f"no kills at system calls: {error}")
    trying = chosen(points, budget, seed)
    print(f"{len(points):,} points, {len(trying):,} of them tried, seed {seed}", flush=True)
    found = list(all_of(trying, home, states, DiskCache))
    table(JOBS, found)
    bad = [f for f in found if f.complaints]
    for f in bad[:SHOWN]:
        print(f"  VIOLATION at {f.point}: {'; '.join(f.complaints)}")
    print(f"  {sum(f.killed for f in found):,} kills, {len(bad):,} violations, {time.monotonic() - began:.0f} s\n")

    print("the same on a cache that commits results first and their origins in a second step")
    began = time.monotonic()
    jobs = [job for job in JOBS if job.name in ("import", "run")]  # those that store much
    wrong = [point for job in jobs for point in points_of_sql(job, starts, home, TwoStepCache)]
    found = list(all_of(chosen(wrong, WRONG_POINTS, seed), home, states, TwoStepCache))
    table(jobs, found)
    caught = [f for f in found if f.complaints]
    for f in caught[:: max(1, len(caught) // 3)]:
        print(f"  found, as it should be, at {f.point}: {f.complaints[0]}")
    print(f"  {len(caught):,} violations found, {time.monotonic() - began:.0f} s")
    if not caught:
        print("  NONE was found: the sweep is blind")
    return not bad and bool(caught)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.sweep", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--budget", type=int, help="try only so many points")
    parser.add_argument("--seed", type=int, default=0, help="where the points of a budget begin")
    arguments = parser.parse_args()
    home = scratch_folder()
    logging.disable()  # what is damaged is counted, and need not be said for each
    try:
        return 0 if sweep(Path(home), arguments.budget, arguments.seed) else 1
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
