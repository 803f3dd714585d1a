"""One process of the fuzzer: `python -m tests.fuzz.child target runs seconds seed corpus report`.

Rules: a finding does not end the run: each place that something wrong comes from counts once, and is written down with
its input. What ends a process without a word (a crash of the interpreter, 30 s on one input, too much memory) is left
to libFuzzer, which keeps the input beside the corpus.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import atheris
import numpy  # noqa: F401  # loaded, and not instrumented

from tests.fuzz.seeds import LONGEST

SRC = Path(__file__).resolve().parent.parent.parent / "src" / "artdag_fed"
MOST_FOUND = 20  # places


def peak_kib() -> int:
    """Most memory that this process had at once, as the kernel counts it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise LookupError("no VmHWM in /proc/self/status")


class Run:
    """Executions so far, and what they found."""

    def __init__(self, check: Any, runs: int, seconds: float, report: Path) -> None:
        self.check, self.runs, self.report = check, runs, report
        self.count = 0
        self.began = time.monotonic()
        self.ends = self.began + seconds
        self.peak_before = 0
        self.slowest = (0.0, "")
        self.found: dict[str, str] = {}

    def one(self, data: bytes) -> None:
        self.count += 1
        if self.count == 1:
            self.peak_before = peak_kib()
        before = time.perf_counter()
        try:
            self.check(data)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            name = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:200]!r}"
            key = name if len(self.found) < MOST_FOUND else "more"
            if not any(known.startswith(name.partition(": ")[0]) for known in self.found):
                self.found[key] = data.hex()
        took = time.perf_counter() - before
        if took > self.slowest[0]:
            self.slowest = (took, data.hex())
        if self.count >= self.runs or (self.count % 256 == 0 and time.monotonic() > self.ends):
            self.end()

    def end(self) -> None:
        told = {
            "executions": self.count,
            "seconds": time.monotonic() - self.began,
            "peak_before_kib": self.peak_before,
            "peak_kib": peak_kib(),
            "slowest": self.slowest,
            "found": self.found,
        }
        self.report.write_text(json.dumps(told))
        sys.stdout.flush()
        os._exit(0)  # atheris never returns; the corpus is on disk already


def main() -> None:
    target, runs, seconds, seed, corpus, report = sys.argv[1:]
    # Just what is looked at: each edge that is followed costs time.
    reached = [f"artdag_fed.{path.stem}" for stem in ("bundle", "codec") for path in SRC.glob(f"{stem}*.py")]
    with atheris.instrument_imports(include=reached):
        importlib.import_module("artdag_fed")
        module = importlib.import_module({"bundle": "tests.fuzz.bundles", "codec": "tests.fuzz.payloads"}[target])

    def mutator(data: bytes, most: int, seed: int) -> bytes:
        made: bytes = module.mutated(data, most, seed, atheris.Mutate)
        return made

    run = Run(module.check, int(runs), float(seconds), Path(report))
    options = [
        f"-max_len={LONGEST}",
        f"-seed={seed}",
        "-timeout=30",
        "-rss_limit_mb=1024",
        "-reload=0",
        "-len_control=0",
    ]
    options += [f"-artifact_prefix={corpus}-"]
    atheris.Setup([sys.argv[0], *options, corpus], run.one, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
