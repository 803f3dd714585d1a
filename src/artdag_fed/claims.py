"""Who computes what right now, so that two runs on one cache object compute a result once.

Rules: a run claims a node just before it computes it and lets go of it when the result is committed, or when there will
be none; whoever wanted it is told then, and looks whether it is held. A run waits only when there is nothing else that
it could do, and nothing that it holds a claim on rests on that waiting; so two runs cannot wait for each other. A run
inside the runner of another, in the same thread, does not wait for the one around it.

Refuses to reach further than one object in one process: two processes may compute the same result, and the first
committed stays.

>>> claims = Claims()
>>> with claims.enter() as one:
...     one.take("c1"), one.take("c1")
(True, True)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any

from artdag_fed.names import Cid

__all__ = ["Claimant", "Claims"]


class Claims:
    """What is claimed in one cache, and the runs that are under way on it. Kept by the cache."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self.lock = threading.Lock()
        self.owners: dict[Cid, Claimant] = {}
        self.present: list[Claimant] = []

    def enter(self) -> Claimant:
        """A run begins: to be entered (`with`) before it looks at what is held."""
        if self._pid != os.getpid():  # forked meanwhile: the parent's runs go on elsewhere
            self._begin()
        return Claimant(self)


class Claimant:
    """One run. `news`: what others let go of since it began: what it knew of these is old.

    `inbox`: where it is told of what it waits for, as a set of cids; others may put their own messages there.
    `hurry`: called (by a thread of another run) when another one begins to wait for it.
    """

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self.owners = claims.owners
        self._thread = threading.get_ident()
        self._wanted: set[Cid] = set()
        self.news: set[Cid] = set()
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        self.hurry: Callable[[], None] | None = None

    def __enter__(self) -> Claimant:
        with self._claims.lock:
            self._claims.present.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        with self._claims.lock:
            if self in self._claims.present:
                self._claims.present.remove(self)
            mine = [cid for cid, owner in self._claims.owners.items() if owner is self]
        self.release(mine)

    def take(self, cid: Cid) -> bool:
        """Whether it is for this run to compute; if not, the inbox tells when whoever does so has let go of it."""
        if self.owners.setdefault(cid, self) is self:  # in one step, so without the lock: it is asked for every node
            return True
        with self._claims.lock:
            owner = self.owners.setdefault(cid, self)
            if owner is self or owner._thread == self._thread:
                return True
            self._wanted.add(cid)
        if owner.hurry is not None:  # outside the lock: it takes others
            owner.hurry()
        return False

    def release(self, cids: Iterable[Cid]) -> None:
        """Let go of these: they are committed, or will not be."""
        claims = self._claims
        with claims.lock:
            owners = self.owners
            freed = [cid for cid in cids if owners.get(cid) is self]
            others = [other for other in claims.present if other is not self]
            for other in others:
                other.news.update(freed)  # first: who takes one of them, without the lock, looks there next
            for cid in freed:
                del owners[cid]
            for other in others:
                told = other._wanted.intersection(freed)
                if told:
                    other._wanted -= told
                    other.inbox.put(told)
