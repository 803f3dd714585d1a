"""Finished results on their way into a cache: committed when they are many, large or old.

Rules: what a crash can lose is bounded in number, bytes and time; while one node takes long, those before it are
committed. Time is what the clock that was passed in says. Nothing here decides what to compute.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from artdag_fed.cache import Changes, Entry, Origin, OriginCache, Outcome
from artdag_fed.callables import Observe
from artdag_fed.events import Event
from artdag_fed.names import Cid

__all__ = ["Finished", "Group"]

GROUP_RESULTS = 1 << 14  # what a commit costs by itself is a percent of what that many results do
GROUP_BYTES = 16 << 20  # results waiting for their commit in memory
GROUP_SECONDS = 0.25  # finished work that a crash may lose; a commit takes a few milliseconds of it

Finished = tuple[Cid, str, bytes | None, Any, bytes, str, str, float, int]
"""A result that waits: cid, digest, payload, value (None where the cache keeps payloads), recipe, inputs digest,
source, seconds, and the number that `Group.resting` gave. Not yet an `Entry`: a tuple of texts, numbers and bytes is
one that the garbage collector looks at once, and to look at ten thousand entries again and again takes it a twentieth
of a run."""

_NEVER = -math.inf
_entry = partial(tuple.__new__, Entry)  # in half the time that a named tuple's own way takes


class Group:
    """Finished results on their way into the cache: committed when they are many, large or old.

    While one node takes long, a thread of ours commits those before it (only where the cache is durable, or another run
    waits for them; else nothing is gained). What goes wrong there is raised at the next use, or at the end; what could
    not be committed waits, and is tried once more at the end. `committed` is told the cids of each commit, stale ones
    too.
    """

    def __init__(
        self,
        cache: OriginCache,
        clock: Callable[[], float],
        outcomes: list[Outcome],
        observe: Observe | None = None,
        committed: Callable[[Iterable[Cid]], None] | None = None,
        date: Callable[[], float] = time.time,
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._observe = observe
        self._committed = committed
        self._date = date
        self._outcomes = outcomes
        self._lock = threading.RLock()
        # Added to without the lock, and taken from with it: one list for good, whose own steps are whole.
        self._waiting: list[Finished] = []
        self._rests: list[tuple[Origin, frozenset[int], bool]] = []
        self._numbers: dict[tuple[Origin, frozenset[int], bool], int] = {}
        self._added = self._taken = 0  # bytes so far: the one is counted by who adds, the other under the lock
        self._due = _NEVER  # when what waits is to be committed; _NEVER is no time yet
        self._stale: set[Cid] = set()
        self._ticker: threading.Thread | None = None
        self._starting = threading.Lock()
        self._stop = threading.Event()
        self._error: BaseException | None = None

    def resting(self, origin: Origin, basis: frozenset[int], replace: bool) -> int:
        """The number for results with these: see `Entry`."""
        what = origin, basis, replace
        number = self._numbers.setdefault(what, len(self._rests))
        if number == len(self._rests):
            self._rests.append(what)
        return number

    def add(self, finished: Finished, now: float) -> None:
        """Take a finished result; commit where enough wait. For one thread; another may flush meanwhile."""
        waiting = self._waiting
        waiting.append(finished)
        payload = finished[2]
        if payload is not None:
            self._added += len(payload)
        # In this order, for there is no lock: a flush first says that nothing is due, and then takes what waits.
        if now >= self._due or len(waiting) >= GROUP_RESULTS or self._added - self._taken >= GROUP_BYTES:
            with self._lock:
                if self._due == _NEVER:
                    self._due = now + GROUP_SECONDS
                    if self._ticker is None and self._cache.encodes:
                        self.hurry()
                if now >= self._due or len(waiting) >= GROUP_RESULTS or self._added - self._taken >= GROUP_BYTES:
                    self.flush()

    def hurry(self) -> None:
        """See to it, from any thread, that what is finished is committed soon, whatever the run is busy with."""
        with self._starting:
            if self._ticker is None and not self._stop.is_set():
                ticker = threading.Thread(target=self._tick, name="artdag_fed-commit", daemon=True)
                ticker.start()
                self._ticker = ticker

    def flush_old(self) -> None:
        """Commit if the oldest result waits for longer than `GROUP_SECONDS`."""
        with self._lock:
            if self._waiting and self._clock() >= self._due:
                self.flush()

    def flush(self) -> None:
        """Commit everything that waits; raise what went wrong in the background."""
        with self._lock:
            self._raise()
            due, self._due = self._due, _NEVER
            added, count = self._added, len(self._waiting)
            if not count:
                return
            try:
                entries = self._entries(islice(self._waiting, count))
                outcome = self._cache.commit(Changes(put=self._cache.stage(entries), at=self._date()))
            except BaseException:
                self._due = due
                raise
            cids = [finished[0] for finished in islice(self._waiting, count)]
            del self._waiting[:count]
            self._taken = added
            self._outcomes.append(outcome)
            self._stale |= outcome.stale
            if self._committed is not None:
                self._committed(cids)
            self._cache.purge()
        if self._observe is not None:
            self._observe(Event("committed", count=sum(outcome.stored.values())))

    def _entries(self, taken: Iterable[Finished]) -> Iterator[Entry]:
        rests, valued = self._rests, not self._cache.encodes
        for cid, digest, payload, value, recipe, inputs, source, spent, number in taken:
            origin, basis, wins = rests[number]
            yield _entry(
                (cid, origin, digest, payload, value, valued, recipe, inputs, wins, basis, source, spent, b"", 0)
            )

    def take_stale(self) -> set[Cid]:
        """The cids that were not kept since the last question."""
        with self._lock:
            stale, self._stale = self._stale, set()
            return stale

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _tick(self) -> None:
        while not self._stop.wait(GROUP_SECONDS):
            try:
                self.flush_old()
            except BaseException as error:  # noqa: BLE001  # raised where the caller can catch it: in `flush`
                self._error = error
                return

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        with self._starting:
            self._stop.set()
        if self._ticker is not None:
            self._ticker.join()
        error, self._error = self._error, None  # first save what can be saved
        self.flush()
        self._error = error
        self._raise()
