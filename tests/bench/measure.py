"""How the benchmarks measure: two ways of doing the same, in turn, and the ratio of their medians.

Rules: both sides run in the same process, one round of each after the other, so that what else the machine does falls
on both; set-up and clean-up are outside the timing; a fresh folder for each round.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

Round = Callable[[Path], Callable[[], object]]
"""Given a fresh folder: sets up one round and returns what is timed; what that returns is dropped after the timing."""


def seconds(round_: Round) -> float:
    """One round's time."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        timed = round_(Path(folder))
        gc.collect()
        began = time.perf_counter()
        left = timed()
        took = time.perf_counter() - began
        del left
        return took


def ratio(what: str, ours: Round, plain: Round, at_most: float, rounds: int) -> float:
    """Print both medians with their spread, and their ratio beside what it is to be at most."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, one in zip(times, (ours, plain), strict=True):
            side.append(seconds(one))
    found = statistics.median(times[0]) / statistics.median(times[1])
    ours_ms, plain_ms = (f"{statistics.median(t) * 1e3:9.2f} ({min(t) * 1e3:.2f}-{max(t) * 1e3:.2f})" for t in times)
    verdict = "" if found <= at_most else "   <-- above"
    print(f"{what}\n    ours {ours_ms} ms, plain {plain_ms} ms: {found:.2f} (at most {at_most}){verdict}", flush=True)
    return found
