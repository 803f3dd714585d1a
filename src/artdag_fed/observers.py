"""Observers for a run that takes a while: one that counts and times, one that moves a progress bar.

Rules: an observer is a function of an event, as in `callables`; those here only look, print nothing, and need no
library (a bar is anything with `update(n)`). They may be called from several threads. Two at once are
`lambda event: (tally(event), bar(event))`.

>>> tally = Tally()
>>> tally(Event("computed", op="blur@1", seconds=0.25)); tally(Event("reused", cid="c1"))
>>> tally
<Tally: 1 computed in 0.25 s, 1 reused>
>>> tally.kinds["computed"], tally.seconds["blur@1"]
(1, 0.25)
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Protocol

from artdag_fed.callables import Observe
from artdag_fed.events import Event

__all__ = ["Bar", "Tally", "progress"]

DONE = frozenset({"computed", "reused", "failed", "skipped"})  # a node that has been dealt with, one way or another
COUNTED = frozenset({"committed", "withdrawn", "dropped", "recalled"})  # one event of these is about `count` results


class Tally:
    """An observer that counts and times, for a run or for many.

    kinds: how many of each kind of event; of those about several results, how many results. ops: how many nodes of each
    op were computed. seconds: how long the computations of each op took, together; on several cores more than passed.
    """

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.ops: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self.kinds[event.kind] += event.count if event.kind in COUNTED else 1
            if event.kind == "computed":
                self.ops[event.op] += 1
                self.seconds[event.op] = self.seconds.get(event.op, 0.0) + event.seconds

    def slowest(self, most: int = 5) -> list[tuple[str, int, float]]:
        """The ops that took longest, with how many nodes and how many seconds, the longest first."""
        with self._lock:
            ops = sorted(self.seconds.items(), key=lambda item: (-item[1], item[0]))[:most]
            return [(op, self.ops[op], seconds) for op, seconds in ops]

    def __repr__(self) -> str:
        with self._lock:
            parts = [f"{count} {kind}" for kind, count in sorted(self.kinds.items())]
            took = f"{self.kinds['computed']} computed in {sum(self.seconds.values()):.2f} s"
            parts = [took if part.endswith(" computed") else part for part in parts]
        return f"<Tally: {', '.join(parts) or 'nothing'}>"


class Bar(Protocol):
    """What tqdm's bars are, and anything else that moves by a number."""

    def update(self, n: int, /) -> object: ...


def progress(bar: Bar) -> Observe:
    """An observer that moves `bar` by one for each node that is done: computed, reused, failed or skipped.

    How many that will be, `plan` knows: `tqdm(total=len(p.computed) + len(p.reused))`. For rich, which asks which of
    its tasks: a small class whose `update(n)` calls `progress.update(task, advance=n)`. What the bar raises ends the
    run, as for any observer. Raises `TypeError` where it cannot be updated.
    """
    if not callable(getattr(bar, "update", None)):
        raise TypeError(
            f"a progress bar has an update(n), and {type(bar).__name__} has none: make one with tqdm(total=...)"
        )
    lock = threading.Lock()

    def observe(event: Event) -> None:
        if event.kind in DONE:
            with lock:
                bar.update(1)

    return observe
