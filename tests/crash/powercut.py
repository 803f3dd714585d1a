"""The power-cut replay: `python -m tests.crash.powercut [--images N] [--seed S]`.

What each job writes is recorded (strace), and crash images are built: the power goes after each operation, and of what
was not yet synced all is kept, all is lost, or some of each (`platter` says what can happen to a disk). Each image is
opened and has to pass the checks of `check`; what a commit had reported before the cut has to be there. Then the same
with syncs left out, where violations have to be found. Ends with 1 where there are violations, or where none is found
that was planted; with 3 where there is no strace, and nothing was tried.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from artdag_fed import DiskCache
from artdag_fed.caches import disk_blobs
from tests.crash.check import State, complaints
from tests.crash.child import NoStrace, Strace, start
from tests.crash.cores import spread
from tests.crash.kill import Starts, states_of
from tests.crash.platter import Choice, Image, Platter, lay, sectors
from tests.crash.recording import OPTIONS, Recorder, descriptors
from tests.crash.sweep import scratch_folder
from tests.crash.work import JOBS, Job

__all__ = ["main", "mixed"]

IMAGES = 6000
WRONG_IMAGES = 400  # for each way of being wrong
ROUNDS = 400  # choices that are tried for each cut, at most, to find images that are not yet there
NOTHING_TRIED = 3  # the exit code
SHOWN = 20  # violations that are printed; all are counted

STYLES = ("whole", "torn", "by object", "one lost", "one kept", "first ones")


class Recorded(NamedTuple):
    """A job, what it wrote, and what may be held after it."""

    job: Job
    platter: Platter
    states: list[State]

    def reported(self, cut: int) -> int:
        return sum(op.kind == "mark" for op in self.platter.operations[:cut])


class Cut(NamedTuple):
    """An image to be checked: which recording, after how many operations, and what got to the disk."""

    recorded: int
    cut: int
    style: str
    choice: Choice


# --- what was written -------------------------------------------------------------------------


def record(job: Job, starts: Starts, home: Path, arm: Callable[[DiskCache], object] | None = None) -> Recorded:
    """Do a job under strace; `arm` may spoil it. Its files are synced by threads, as in earnest."""
    root, marker, written = home / "recorded", home / "marker", home / "trace"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    marker.unlink(missing_ok=True)
    states = states_of(job, starts, home)
    starts.copy(job, root / "cache")
    recorder = Recorder(root, marker)
    child = start(job, root / "cache", arm=arm, waits=True, mark=marker)
    recorder.inherit(descriptors(child))
    strace = Strace(child, *OPTIONS, to=written)
    status, _ = child.ended()
    said = strace.said()
    assert status == 0, f"{job.name} ended with {status} under strace {said}"
    operations = recorder.follow(written.read_text("ascii"))
    platter = Platter(recorder.first_entries | _made(recorder), recorder.contents, operations)
    kept = platter.image(len(operations), dict.fromkeys(range(len(operations)), True))
    assert kept == _real(root), f"{job.name}: what was recorded does not give what is there"
    return Recorded(job, platter, states)


def _made(recorder: Recorder) -> dict[int, dict[str, int]]:
    """Folders that came to be: empty at first."""
    return {number: {} for number in recorder.entries.keys() - recorder.first_entries.keys()}


def _real(root: Path) -> Image:
    paths = ((str(path.relative_to(root)), path) for path in root.rglob("*"))
    return {name: None if path.is_dir() else path.read_bytes() for name, path in paths}


# --- what got to the disk ---------------------------------------------------------------------


def mixed(platter: Platter, pending: Sequence[int], style: str, chance: random.Random) -> Choice:
    """Some of what is pending, in one of the `STYLES`."""
    operations = platter.operations
    likely = chance.choice((0.1, 0.5, 0.9))

    def torn(index: int) -> bool | int:
        count = len(sectors(operations[index])) if operations[index].kind == "write" else 0
        if not count:
            return chance.random() < likely
        return sum(1 << bit for bit in range(count + 1) if chance.random() < likely)

    if style == "whole":
        return {index: True for index in pending if chance.random() < likely}
    if style == "torn":
        return {index: torn(index) for index in pending}
    if style == "by object":
        kept = {target for target in {operations[i].target for i in pending} if chance.random() < 0.5}
        return {index: True for index in pending if operations[index].target in kept}
    if style == "one lost":
        lost = chance.choice(pending)
        return {index: True if index != lost else torn(index) for index in pending}
    if style == "one kept":
        return {chance.choice(pending): True}
    choice: dict[int, bool | int] = {}  # the first ones of each object, and a part of the next
    for target in {operations[i].target for i in pending}:
        these = [index for index in pending if operations[index].target == target]
        count = chance.randint(0, len(these))
        choice |= dict.fromkeys(these[:count], True)
        if count < len(these):
            choice[these[count]] = torn(these[count])
    return choice


def cuts(recordings: Sequence[Recorded], most: int, seed: int) -> Iterator[tuple[Cut, str, bool]]:
    """Cuts to be checked with the hash of their image, and whether that is a new one, until `most` new ones are there.

    An image that was there already comes again only where more had been reported by then.
    """
    seen: set[tuple[str, int, int]] = set()
    trees: set[str] = set()
    places = [(number, cut) for number, r in enumerate(recordings) for cut in range(len(r.platter.operations) + 1)]
    pending = {place: recordings[place[0]].platter.pending(place[1]) for place in places}
    for turn in range(ROUNDS):
        for place in places:
            number, cut = place
            choice: Choice
            chance = random.Random(f"{seed} {turn} {place}")
            if turn == 0:
                style, choice = "kept", dict.fromkeys(pending[place], True)
            elif not pending[place]:
                continue
            elif turn == 1:
                style, choice = "lost", {}
            else:
                style = STYLES[turn % len(STYLES)]
                choice = mixed(recordings[number].platter, pending[place], style, chance)
            image = recordings[number].platter.image(cut, choice)
            tree = _hash(image)
            key = (tree, number, recordings[number].reported(cut))
            if key in seen:
                continue
            seen.add(key)
            yield Cut(number, cut, style, choice), tree, tree not in trees
            trees.add(tree)
            if len(trees) >= most:
                return


def _hash(image: Image) -> str:
    """SHA-256 of a tree."""
    whole = hashlib.sha256()
    for path, content in sorted(image.items()):
        whole.update(f"{path}\0{None if content is None else len(content)}\0".encode())
        if content is not None:
            whole.update(content)
    return whole.hexdigest()


# --- judging ----------------------------------------------------------------------------------


def judge(cut: Cut, recordings: Sequence[Recorded], home: Path) -> tuple[Cut, list[str]]:
    """Build the image and check it."""
    recorded = recordings[cut.recorded]
    root = home / f"image-{os.getpid()}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    lay(recorded.platter.image(cut.cut, cut.choice), root)
    return cut, complaints(root / "cache", recorded.states, recorded.reported(cut.cut))


def replay(recordings: Sequence[Recorded], home: Path, most: int, seed: int) -> tuple[int, list[tuple[Cut, list[str]]]]:
    """The number of distinct images, and every cut with what was wrong."""
    chosen = list(cuts(recordings, most, seed))
    found = list(spread(lambda cut: judge(cut, recordings, home), [cut for cut, _, _ in chosen]))
    return sum(new for _, _, new in chosen), found


def table(recordings: Sequence[Recorded], found: Sequence[tuple[Cut, list[str]]]) -> None:
    print(f"  {'images':20}{'operations':>12}{'syncs':>8}{'kept':>8}{'lost':>8}{'mixed':>8}{'violations':>12}")
    sums = Counter[str]()
    for number, (job, platter, _) in enumerate(recordings):
        here = [(cut, bad) for cut, bad in found if cut.recorded == number]
        counts = Counter(cut.style if cut.style in ("kept", "lost") else "mixed" for cut, _ in here)
        counts["bad"] = sum(bool(bad) for _, bad in here)
        counts["operations"] = len(platter.operations)
        counts["syncs"] = sum(op.kind == "sync" for op in platter.operations)
        sums.update(counts)
        _row(job.name, counts)
    _row("all", sums)


def _row(name: str, counts: Counter[str]) -> None:
    c = counts
    print(f"  {name:20}{c['operations']:12,}{c['syncs']:8,}{c['kept']:8,}{c['lost']:8,}{c['mixed']:8,}{c['bad']:12,}")


def _say(found: Sequence[tuple[Cut, list[str]]], recordings: Sequence[Recorded], word: str, most: int) -> None:
    for cut, bad in [each for each in found if each[1]][:most]:
        last = recordings[cut.recorded].platter.operations[cut.cut - 1]
        where = f"{recordings[cut.recorded].job.name}, cut {cut.cut} (after {last.kind} {last.name}), {cut.style}"
        print(f"  {word} {where}: {'; '.join(bad)[:300]}")


# --- spoilt on purpose ------------------------------------------------------------------------


def _never_synced(cache: DiskCache) -> None:
    with cache.alone() as db:
        db.execute("PRAGMA synchronous=OFF")


def _files_not_synced(cache: DiskCache) -> None:
    mock.patch.object(disk_blobs, "_sync_and_close", os.close).start()


def _folders_not_synced(cache: DiskCache) -> None:
    mock.patch.object(disk_blobs, "sync_folder", lambda folder: None).start()


SPOILT = {
    "with synchronous=OFF": _never_synced,
    "with the files of large results not synced": _files_not_synced,
    "with the folder of those files not synced": _folders_not_synced,
}


def powercut(home: Path, images: int, seed: int) -> bool:
    """Whether everything is as it should be."""
    began = time.monotonic()
    starts = Starts(home / "starts")
    starts.prepare()
    recordings = [record(job, starts, home) for job in JOBS]
    distinct, found = replay(recordings, home, images, seed)
    table(recordings, found)
    bad = [each for each in found if each[1]]
    _say(found, recordings, "VIOLATION", SHOWN)
    if bad:
        print(f"  by kind: {dict(Counter(line.split(':')[0] for _, lines in bad for line in lines))}")
    print(f"  {distinct:,} distinct images, {len(bad):,} violations, seed {seed}, {time.monotonic() - began:.0f} s")
    good = not bad
    for name, arm in SPOILT.items():
        began = time.monotonic()
        jobs = [job for job in JOBS if job.name in ("import", "run")]
        spoilt = [record(job, starts, home, arm) for job in jobs]
        distinct, found = replay(spoilt, home, WRONG_IMAGES, seed)
        caught = sum(bool(wrong) for _, wrong in found)
        print(f"\nthe same {name}: {caught:,} violations in {distinct:,} images, {time.monotonic() - began:.0f} s")
        _say(found, spoilt, "found, as it should be:", 2)
        if not caught:
            print("  NONE was found: the replay is blind")
        good = good and bool(caught)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.powercut")
    parser.add_argument("--images", type=int, default=IMAGES, help="how many distinct images to check")
    parser.add_argument("--seed", type=int, default=0, help="which of the mixed ones")
    arguments = parser.parse_args()
    home = Path(scratch_folder())
    logging.disable()  # what is damaged is counted, and need not be said for each
    try:
        return 0 if powercut(home, arguments.images, arguments.seed) else 1
    except NoStrace as error:
        print(f"{error}: nothing can be recorded, so nothing was replayed")
        return NOTHING_TRIED
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
