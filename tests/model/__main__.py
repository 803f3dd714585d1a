"""The driver as a command: `python -m tests.model [--steps N] [--disk N] [--kills N] [--seed S] [--fault NAME]`.

Rules: ends with 0 where nothing differs and, asked for faults, where each was found; with 1 otherwise, and then it says
how to replay what it saw. The same seed and numbers do the same steps, on every machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

from tests.model.driver import EPISODE, World, drive
from tests.model.durable import DISK_EPISODE, MANY_KILLS, DiskWorld
from tests.model.faults import FAULTS, ON_DISK, Fault

__all__ = ["main"]

FIND_WITHIN = 100_000  # steps in which a fault is to be found
TELL_SECONDS = 30  # between two lines of a long drive


def main(arguments: list[str] | None = None) -> int:
    """What the command ends with."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description="The real instances against a model.")
    parser.add_argument("--steps", type=int, default=0, help="steps in memory")
    parser.add_argument("--disk", type=int, default=0, help="steps on disk")
    parser.add_argument("--kills", type=int, default=0, help="how many of those on disk are killed, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episode", type=int, default=0, help="where to begin, to replay what differed")
    parser.add_argument("--fault", choices=sorted({*FAULTS, *ON_DISK}), help="with this one patched in: is it found?")
    parser.add_argument("--faults", action="store_true", help="with each of them in turn")
    parser.add_argument("--digest", action="store_true", help="print what the models hold at the end, as a digest")
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}")
    if chosen.faults or chosen.fault:
        wanted = [chosen.fault] if chosen.fault else sorted({*FAULTS, *ON_DISK})
        within = chosen.steps or FIND_WITHIN
        found = found_all("in memory", FAULTS, wanted, chosen.seed, within, World, EPISODE)
        killing = partial(DiskWorld, kills=MANY_KILLS)
        return 0 if found_all("on disk", ON_DISK, wanted, chosen.seed, within, killing, DISK_EPISODE) and found else 1
    fine = True
    begin = chosen.seed, chosen.episode, chosen.digest
    if chosen.steps or not chosen.disk:
        fine = told("in memory", *begin, chosen.steps or 10_000, World, EPISODE)
    if chosen.disk and fine:
        # As the steps are chosen by weight, some more, so that it is as many as were asked for.
        make = partial(DiskWorld, kills=1.3 * chosen.kills / chosen.disk) if chosen.kills else DiskWorld
        fine = told("on disk", *begin, chosen.disk, make, DISK_EPISODE, chosen.kills)
    return 0 if fine else 1


def told(
    where: str,
    seed: int,
    episode: int,
    digest: bool,
    steps: int,
    make: Callable[[str], World],
    length: int,
    kills: int = 0,
) -> bool:
    """Drive, and say what came of it; whether all was well."""
    began = last = time.monotonic()

    def progress(done: int) -> None:
        nonlocal last
        if time.monotonic() - last > TELL_SECONDS:
            last = time.monotonic()
            print(f"  {done:,} steps {where}, {last - began:.0f} s", flush=True)

    counts, differs, state = drive(seed, steps, make, episode, length, progress)
    took = time.monotonic() - began
    if differs:
        again = "--disk" if make is not World else "--steps"
        print(f"{where}, seed {seed}: {differs.replace('--steps', again)}")
        return False
    actions = ", ".join(f"{count:,} {action}" for action, count in sorted(counts.items()) if action != "steps")
    print(f"{where}, seed {seed}: {counts['steps']:,} steps, 0 differences, {took:.0f} s: {actions}")
    if digest:
        print(state)
    if counts["kills"] < kills:
        print(f"{where}: only {counts['kills']} kills of {kills}")
        return False
    return True


def found_all(
    where: str,
    faults: Mapping[str, Fault],
    wanted: list[str],
    seed: int,
    within: int,
    make: Callable[[str], World],
    length: int,
) -> bool:
    """Whether each fault is found, and after how many steps."""
    missed = 0
    for name, fault in faults.items():
        if name in wanted:
            with fault():
                counts, differs, _ = drive(seed, within, make, length=length)
            found = f"found at step {counts['steps']:,}" if differs else f"NOT FOUND within {within:,} steps"
            print(f"{name} ({where}): {found}", flush=True)
            if len(wanted) == 1:
                print(differs)
            missed += not differs
    return not missed


if __name__ == "__main__":
    sys.exit(main())
