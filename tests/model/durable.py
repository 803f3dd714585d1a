"""The driver on disk: durable instances, a second process that works on them, and kills in the midst of a verb.

Rules: who is killed is a child of its own process, at a numbered SQL statement or step of SQLite's virtual machine, so
that a kill is replayed like every other step; nothing sleeps. What is withdrawn is purged a row at a time, so that what
is unreadable lies beside what is held. Two helpers are forked before any index is open: one works on the folders, as
another process of a user's would; the other has none open, and forks those who die.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final
from unittest import mock

import artdag_fed
from artdag_fed import DiskCache, Federation, grouping
from artdag_fed.caches import disk
from tests.crash.child import dies_at
from tests.model.comparing import copied
from tests.model.driver import WEIGHTS, World
from tests.model.verbs import Done, Step, perform

__all__ = ["DISK_EPISODE", "MANY_KILLS", "DiskWorld", "Killer", "Second"]

DISK_EPISODE: Final = 250  # steps with the same folders
MANY_KILLS: Final = 0.3  # of all steps, where a kill is what shows it
MOST_STATEMENTS: Final = 40  # that a verb takes here, about
MOST_STEPS: Final = 3000


class Helper:
    """A forked process that answers questions until it is closed."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._pipe, theirs = Pipe()
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            try:
                self._pipe.close()
                serve(theirs, answer)
                status = 0
            finally:
                os._exit(status)
        theirs.close()

    def ask(self, *question: Any) -> Any:
        """Its answer; what it raised is raised."""
        self._pipe.send(question)
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self._pipe.send(())  # and not only closed: a later helper has inherited this end of the pipe
        self._pipe.close()
        os.waitpid(self._pid, 0)


def serve(pipe: Connection, answer: Callable[..., Any]) -> None:
    """Answer until nobody asks."""
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        if not question:
            return
        try:
            said = answer(*question)
        except Exception as error:
            said = AssertionError(f"in the helper: {type(error).__name__}: {error}")
        pipe.send(said)


class Second:
    """Another process of a user's: it opens each folder once, and works on it when it is told to."""

    def __init__(self) -> None:
        self._open: dict[str, Federation] = {}

    def __call__(self, folder: str, step: Step) -> Done:
        if folder not in self._open:
            self._open[folder] = artdag_fed.open(folder)
        return perform(self._open[folder], step)[1]


def kill(folder: str, step: Step, statement: int, moment: int) -> int:
    """Do the step in a child that is killed there; how it ended: -9, or 0 where it was done before."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            fed = artdag_fed.open(folder)
            assert isinstance(fed.cache, DiskCache)
            dies_at(statement=statement, step=moment)(fed.cache)
            perform(fed, step)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Killer(Helper):
    """Who forks those who die: nothing is open in it."""

    def __init__(self) -> None:
        super().__init__(kill)


class DiskWorld(World):
    """Four instances in folders. kills: how often, of all steps, one is killed."""

    in_order = True
    weights: Mapping[str, int] = {**WEIGHTS, "second": 12, "reopen": 3}

    def __init__(self, seed: str, kills: float = 0.05) -> None:
        shm = Path("/dev/shm")  # a kill loses nothing that was written, wherever it is
        self._root = tempfile.mkdtemp(prefix="artdag-fed-", dir=shm if os.access(shm, os.W_OK) else None)
        self._patched = ExitStack()
        self._patched.enter_context(mock.patch.object(disk, "BATCH", 1))
        self._patched.enter_context(mock.patch.object(grouping, "GROUP_SECONDS", 1e6))
        self.weights = {**self.weights, "crash": round(kills * 3 * sum(self.weights.values()))}
        self._second, self._killer = Helper(Second()), Killer()
        super().__init__(seed)

    def close(self) -> None:
        for fed in self.feds.values():
            fed.cache.close()  # type: ignore[attr-defined]  # a DiskCache has it
        for helper in (self._second, self._killer):
            helper.close()
        self._patched.close()
        shutil.rmtree(self._root)

    def folder(self, name: str) -> str:
        return f"{self._root}/{name}"

    def opened(self, name: str) -> Federation:
        return artdag_fed.open(self.folder(name))

    def fresh(self, fed: Federation) -> Federation:
        return fed

    # --- what happens -----------------------------------------------------------------------

    def do_second(self, name: str) -> None:
        """The other process does something."""
        step = self.some_run(name) if self.rng.random() < 0.5 else self.some_pull(name)
        self.elsewhere = True
        try:
            self.do(step)
        finally:
            self.elsewhere = False

    elsewhere = False

    def perform(self, fed: Federation, step: Step) -> tuple[Federation, Done]:
        if not self.elsewhere:
            other = partial(self._second.ask, self.folder(step.at))
            return perform(fed, step, other if self.rng.random() < 0.5 else None)
        return self.feds[step.at], self._second.ask(self.folder(step.at), step)

    def do_reopen(self, name: str) -> None:
        self.feds[name].cache.close()  # type: ignore[attr-defined]  # a DiskCache has it
        self.feds[name] = self.older[name] = self.opened(name)
        self.compare(name, everything=True)

    def do_crash(self, name: str) -> None:
        """kill -9 in the midst of it."""
        rng = self.rng
        makers = self.some_run, self.some_pull, self.some_withdrawal, self.some_forgetting
        step = rng.choice((*makers, self.some_pruning, self.some_challenge))(name)
        at = (rng.randint(1, MOST_STATEMENTS), 0) if rng.random() < 0.5 else (0, rng.randint(1, MOST_STEPS))
        self.doing = f"killed at {at} in {step}"
        after = self.model_after(name, step)
        ended = self._killer.ask(self.folder(name), step, *at)
        assert ended in (0, -signal.SIGKILL), f"the child ended with {ended}"
        if ended == 0:
            self.one_of(name, after)
            return
        self.counts["kills"] += 1
        before = self.models[name]
        possible = [before, after]
        if step.verb == "prune":  # in batches, first of what came from others
            between = copied(before)
            between.rows = {cid: r for cid, r in before.rows.items() if cid in after.rows or r.peer is None}
            possible.append(between)
        self.counts["kills after the commit"] += self.one_of(name, *possible) > 0
