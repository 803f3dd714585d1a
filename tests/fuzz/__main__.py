"""The fuzzer: `python -m tests.fuzz [--runs N] [--seconds S] [--target bundle|codec|both] [--seed N]`.

One process for each target, with atheris, and after them a replay of what they gathered, which counts the branches.
Ends with 1 where anything but a `FederationError` came out, a value changed on its way, memory went over its limit, or
too few branches were reached; with 3 where atheris or NumPy is not installed. `README.md` beside this says more.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.fuzz import seeds

ROOT = Path(__file__).resolve().parent.parent.parent

ALL_RUNS = 2_000_000
MOST_GROWTH_MIB = 48
"""What a process may grow by, the fuzzer's own tables and corpus included: a few MiB of them are for what is read."""
LEAST_BRANCHES = 90
GRACE = 120  # seconds after which a process that did not end by itself is ended


def fuzzed(targets: Sequence[str], runs: int, seconds: float, seed: int, work: Path) -> dict[str, dict[str, Any]]:
    """What each process told: all at the same time."""
    processes = {}
    for target in targets:
        print(f"{target}: {seeds.write(target, work / target)} seeds, {len(list((work / target).iterdir()))} inputs")
        (work / f"{target}.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.fuzz.child", target, str(runs // len(targets)), str(seconds), str(seed)]
        with (work / f"{target}.log").open("wb") as log:
            processes[target] = subprocess.Popen(
                [*command, str(work / target), str(work / f"{target}.json")], stdout=log, stderr=log, cwd=ROOT
            )
    told, ends = {}, time.monotonic() + seconds + GRACE
    for target, process in processes.items():
        try:
            process.wait(max(ends - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        report = work / f"{target}.json"
        if process.returncode == 0 and report.exists():
            told[target] = json.loads(report.read_bytes())
        else:
            for path in sorted(work.glob(f"{target}-*")):  # what libFuzzer kept: crash, timeout, oom
                print(f"{path.name}: {path.read_bytes().hex()}")
            tail = (work / f"{target}.log").read_text(errors="replace").splitlines()[-30:]
            told[target] = {"died": f"exit code {process.returncode}", "tail": tail}
    return told


def case(target: str, data: str, about: str) -> str:
    """The beginning of a `case.json` for `tests/corpus`."""
    octets = {"hex": data}
    given = {"bundle": octets} if target == "bundle" else {"payload": octets}
    action = "import" if target == "bundle" else "decode"
    expected = {"error": "BundleError" if target == "bundle" else "CodecError"}
    return json.dumps({"about": about, "action": action, "given": given, "expected": expected})


def shown(target: str, told: dict[str, Any]) -> Iterable[str]:
    """Prints the figures of one process; gives what is wrong."""
    if "died" in told:
        print("\n".join(told["tail"]))
        yield f"{target}: the process died: {told['died']}"
        return
    rate, growth = told["executions"] / told["seconds"], (told["peak_kib"] - told["peak_before_kib"]) / 1024
    print(
        f"{target}: {told['executions']:,} executions in {told['seconds']:.0f} s ({rate:,.0f} a second), peak memory "
        f"{told['peak_kib'] / 1024:.0f} MiB, {growth:.0f} MiB of it since the first; slowest {told['slowest'][0]:.3f} s"
    )
    for name, data in told["found"].items():
        print(f"  {name}\n  {case(target, data, name)}")
    if told["found"]:
        yield f"{target}: {len(told['found'])} findings; each becomes a folder in tests/corpus"
    if growth > MOST_GROWTH_MIB:
        yield f"{target}: memory grew by {growth:.0f} MiB, with {MOST_GROWTH_MIB} allowed"


def replayed(work: Path) -> Iterable[str]:
    """Prints what the corpora reach; gives what is wrong."""
    command = [sys.executable, "-m", "tests.fuzz.replay", str(work)]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT)
    if done.returncode:
        yield "the replay failed"
        return
    for target, told in json.loads(done.stdout).items():
        peak, length = told["peak"]
        print(f"{target}: {told['inputs']:,} inputs; at most {peak:,} bytes of memory for one, of {length:,} bytes")
        if told["wrong"]:
            yield f"{target}: something is wrong with {told['wrong']} inputs of the corpus"
        if peak > seeds.ALONE + seeds.EACH_BYTE * length:
            yield f"{target}: reading {length:,} bytes took {peak:,} bytes of memory"
        for name, one in sorted(told["files"].items()):
            missing = ", ".join(f"{a}->{b if b > 0 else 'end'}" for a, b in one["missing"])
            print(f"  {name:20} {one['reached']:4} of {one['branches']:4} branches{missing and '; not: ' + missing}")
        reached, total = (sum(one[key] for one in told["files"].values()) for key in ("reached", "branches"))
        print(f"  {target + '*.py':20} {reached:4} of {total:4} branches: {100 * reached / total:.1f} %")
        if 100 * reached < LEAST_BRANCHES * total:
            yield f"{target}: {100 * reached / total:.1f} % of the branches, with at least {LEAST_BRANCHES} expected"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=ALL_RUNS, help="executions in all (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3600, help="at most that long (%(default)s)")
    parser.add_argument("--target", choices=(*seeds.TARGETS, "both"), default="both")
    parser.add_argument("--seed", type=int, default=1, help="not 0: the same seed tries the same (%(default)s)")
    parser.add_argument("--corpus", type=Path, help="a folder to begin with and to add to (none is kept unless given)")
    options = parser.parse_args(arguments)
    for module in ("atheris", "numpy", "coverage"):
        if importlib.util.find_spec(module) is None:
            print(f"{module} is not installed, so nothing is fuzzed: python -m pip install --group fuzz")
            return 3
    targets = seeds.TARGETS if options.target == "both" else (options.target,)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        work = options.corpus or Path(scratch)
        told = fuzzed(targets, options.runs, options.seconds, options.seed, work)
        wrong = [line for target in targets for line in shown(target, told[target])]
        wrong += replayed(work)
    print(f"executions in all: {sum(one.get('executions', 0) for one in told.values()):,}")
    print("\n".join(wrong) or "Nothing found.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
