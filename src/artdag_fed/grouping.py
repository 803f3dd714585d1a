"""Finished results on their way into a cache: committed when they are many, large or old.

Rules: what a crash can lose is bounded in number, bytes and time; while one node takes long, those before it are
committed. Time is what the clock that was passed in says. Nothing here decides what to compute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from artdag_fed.cache import Changes, Entry, OriginCache, Outcome
from artdag_fed.callables import Observe
from artdag_fed.events import Event
from artdag_fed.names import Cid

__all__ = ["Group"]

GROUP_RESULTS = 1 << 14  # what a commit costs by itself is a percent of what that many results do
GROUP_BYTES = 16 << 20  # results waiting for their commit in memory
GROUP_SECONDS = 0.25  # finished work that a crash may lose; a commit takes a few milliseconds of it


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
        self._entries: list[Entry] = []
        self._bytes = 0
        self._oldest = 0.0
        self._stale: set[Cid] = set()
        self._ticker: threading.Thread | None = None
        self._starting = threading.Lock()
        self._stop = threading.Event()
        self._error: BaseException | None = None

    def add(self, entry: Entry) -> None:
        """Take a finished result; commit where enough wait."""
        now = self._clock()
        with self._lock:
            entries = self._entries
            entries.append(entry)
            if entry.payload is not None:
                self._bytes += len(entry.payload)
            if len(entries) == 1:
                self._oldest = now
                if self._ticker is None and self._cache.encodes:
                    self.hurry()
            if now - self._oldest >= GROUP_SECONDS or len(entries) >= GROUP_RESULTS or self._bytes >= GROUP_BYTES:
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
            if self._entries and self._clock() - self._oldest >= GROUP_SECONDS:
                self.flush()

    def flush(self) -> None:
        """Commit everything that waits; raise what went wrong in the background."""
        with self._lock:
            self._raise()
            if not self._entries:
                return
            outcome = self._cache.commit(Changes(put=self._cache.stage(self._entries), at=self._date()))
            entries, self._entries, self._bytes = self._entries, [], 0
            self._outcomes.append(outcome)
            self._stale |= outcome.stale
            if self._committed is not None:
                self._committed([entry.cid for entry in entries])
            self._cache.purge()
        if self._observe is not None:
            self._observe(Event("committed", count=sum(outcome.stored.values())))

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
