"""What a corpus reaches: `python -m tests.fuzz.replay folder`, where `folder/bundle` and `folder/codec` are corpora.

Prints JSON: branches of `bundle*.py` and `codec*.py`, by file and in all, each reached by its own corpus; and for each
corpus the most memory that reading one input took for its length: the bytes of both. Nothing is
instrumented by the fuzzer here.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import coverage

from tests.fuzz.seeds import EACH_BYTE

SRC = Path(__file__).resolve().parent.parent.parent / "src" / "artdag_fed"


def inputs(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []


def branches(target: str, corpus: Iterable[bytes]) -> tuple[dict[str, Any], int]:
    """Branches of the target's files: how many, how many were reached, which ones were not; and in how many inputs
    something is wrong."""
    cover = coverage.Coverage(branch=True, include=[f"{SRC}/{target}*.py"], config_file=False, data_file=None)
    cover.start()
    check, wrong = checks(target), 0
    for data in corpus:
        try:
            check(data)
        except Exception:  # what it was, the process that found the input has told
            wrong += 1
    cover.stop()
    with tempfile.TemporaryDirectory() as scratch:
        cover.json_report(outfile=f"{scratch}/told.json")
        told = json.loads(Path(scratch, "told.json").read_bytes())
    files = {
        Path(name).name: {
            "branches": one["summary"]["num_branches"],
            "reached": one["summary"]["covered_branches"],
            "missing": one["missing_branches"],
        }
        for name, one in told["files"].items()
    }
    return files, wrong


def checks(target: str) -> Any:
    if target == "bundle":
        from tests.fuzz import bundles

        return bundles.check
    from tests.fuzz import payloads

    return payloads.check


def memory(target: str, corpus: Iterable[bytes]) -> tuple[int, int]:
    """(bytes at the peak, length of the input) of the input whose reading took the most for its length."""
    from tests.fuzz import bundles, payloads

    read: Any = bundles.read if target == "bundle" else payloads.CODEC.decode
    worst, most = (0, 0), -1 << 62
    tracemalloc.start()
    for data in corpus:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        with contextlib.suppress(Exception):
            read(data)
        peak = tracemalloc.get_traced_memory()[1] - before
        if peak - EACH_BYTE * len(data) > most:
            worst, most = (peak, len(data)), peak - EACH_BYTE * len(data)
    tracemalloc.stop()
    return worst


def main() -> None:
    folder, told = Path(sys.argv[1]), dict[str, Any]()
    for target in ("codec", "bundle"):
        corpus = inputs(folder / target)
        if corpus:
            files, wrong = branches(target, corpus)
            told[target] = {"files": files, "inputs": len(corpus), "wrong": wrong}
    for target in told:
        told[target]["peak"] = memory(target, inputs(folder / target))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
