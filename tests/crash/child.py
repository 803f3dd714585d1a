"""A verb in a process of its own, which may be killed at a numbered point, or be watched by strace.

Rules: the child is forked, so that nothing has to be imported again; the parent never has an index open while it forks,
as SQLite forbids a child to inherit one. What the child has promised reaches the parent as one byte per commit, written
when the commit has returned. A child that fails by itself says why on its standard error and ends with `FAILED`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from unittest import mock

from artdag_fed import DiskCache
from artdag_fed.caches import disk_blobs
from tests.crash.work import Job, perform

__all__ = ["FAILED", "WRITING", "Child", "Inline", "NoStrace", "Strace", "dies_at", "start"]

FAILED = 70
WAITING = b"w"

WRITING = (  # system calls that can change a file or a folder, or put one on the disk
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "truncate", "fallocate", "copy_file_range"),
    *("sendfile", "fsync", "fdatasync", "sync_file_range", "rename", "renameat", "renameat2", "link", "linkat"),
    *("symlink", "symlinkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "open", "openat", "creat"),
)


class Child(NamedTuple):
    """A child that was started: `reports` is read for its promises, `go` written to where it waits for that."""

    pid: int
    reports: int
    go: int

    def waits(self) -> None:
        """Return when it waits for `release`: what is interrupted has not begun, and all before it is done."""
        if os.read(self.reports, 1) != WAITING:
            raise OSError(f"the child ended before it began: {self.ended()}")

    def release(self) -> None:
        os.write(self.go, b"g")

    def ended(self) -> tuple[int, int]:
        """How it ended (-9: killed, 0: done) and how many commits it had reported, when it has."""
        os.close(self.go)
        reported = 0
        while data := os.read(self.reports, 4096):
            reported += len(data)
        os.close(self.reports)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), reported


class Inline:
    """Stands in for a `ThreadPoolExecutor`: in one thread, the points of the work have the same numbers every time."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(call(*arguments))
        except Exception as error:
            done.set_exception(error)
        return done

    def shutdown(self, wait: bool = True) -> None:
        pass


def dies_at(statement: int = 0, step: int = 0, text: str = "") -> Callable[[DiskCache], None]:
    """Kill this process at the start of a numbered SQL statement (or the first that is `text`), or at a numbered step
    of SQLite's virtual machine: at each place where it asks whether to go on. Numbers begin with 1."""

    def arm(cache: DiskCache) -> None:
        left = {"statement": statement, "step": step}

        def begins(sql: str) -> None:
            left["statement"] -= 1
            if left["statement"] == 0 or sql == text:
                os.kill(os.getpid(), signal.SIGKILL)

        def steps() -> None:
            left["step"] -= 1
            if left["step"] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        with cache.alone() as db:
            if statement or text:
                db.set_trace_callback(begins)
            if step:
                db.set_progress_handler(steps, 1)

    return arm


def start(
    job: Job,
    folder: Path,
    *,
    kind: type[DiskCache] = DiskCache,
    arm: Callable[[DiskCache], object] | None = None,
    waits: bool = False,
    threads: bool = True,
    mark: Path | None = None,
) -> Child:
    """Fork a child that does the job in `folder`.

    arm: called with its open cache; waits: it waits for `release` before what is interrupted begins; threads: whether
    files are synced by threads; mark: a file that gets the promises as well, so that strace sees them among the writes.
    """
    reports, reporting = os.pipe()
    waiting, go = os.pipe()
    pid = os.fork()
    if pid:
        os.close(reporting)
        os.close(waiting)
        child = Child(pid, reports, go)
        if waits:
            child.waits()
        return child
    try:
        os.close(reports)
        os.close(go)
        marking = reporting if mark is None else os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        _child(job, folder, kind, arm, waiting if waits else None, threads, reporting, marking)
    except BaseException:
        traceback.print_exc()
        os._exit(FAILED)


def _child(
    job: Job,
    folder: Path,
    kind: type[DiskCache],
    arm: Callable[[DiskCache], object] | None,
    waiting: int | None,
    threads: bool,
    reporting: int,
    marking: int,
) -> NoReturn:
    waits = waiting is not None

    def ready(cache: DiskCache | None) -> None:
        nonlocal waits
        if cache is not None and arm is not None:
            arm(cache)
        if waits and waiting is not None:
            waits = False
            os.write(reporting, WAITING)
            os.read(waiting, 1)

    def committed() -> None:
        for fd in {reporting, marking}:
            os.write(fd, b".")

    executor = ThreadPoolExecutor if threads else Inline
    with mock.patch.object(disk_blobs, "ThreadPoolExecutor", executor):
        perform(job, folder, committed, kind=kind, ready=ready)
    os._exit(0)


class NoStrace(OSError):
    """strace is not there, or may not watch a process here."""


class Strace:
    """strace on a child that waits: it begins to count and to write down when the child is released."""

    def __init__(self, child: Child, *options: str, to: Path) -> None:
        command = ["strace", "-f", "-q", "-p", str(child.pid), "-o", str(to), *options]
        if shutil.which("strace") is None:
            child.release()
            child.ended()
            raise NoStrace("strace is not installed")
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        status = Path(f"/proc/{child.pid}/status")
        while re.search(r"^TracerPid:\t0$", status.read_text(), re.MULTILINE):
            if self._process.poll() is not None:
                child.release()
                child.ended()
                raise NoStrace(f"strace cannot watch a process here: {self.said()}")
            time.sleep(0.0005)
        child.release()

    def said(self) -> str:
        """What it complained of, when it has ended."""
        return self._process.communicate()[1].strip()
