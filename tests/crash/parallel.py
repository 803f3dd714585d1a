"""`python -m tests.crash.parallel [worker parent cluster]`: kill -9 in the middle of a run through an executor.

Rules: a child runs a DAG of short tasks, each of which writes down that it is done; when enough are, a worker of its
pool, the child itself, or a worker of its Dask cluster is killed. Then a second run computes what is missing: of what
was done, at most one commit group and what was under way may be done again, and every result is right. Ends with 1 if
not, and says so where there is no Dask.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import artdag_fed
from artdag_fed import Dag, Node, RunError, grouping, node, run

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
GROUP = 16  # results in a commit, here
UNDER_WAY = 2 * WORKERS + 2  # chunks, of one such task each
SECONDS = 0.02
ENOUGH = 60  # done when something is killed
LONG = 120.0  # seconds that anything may take
LOG = "ARTDAG_FED_CRASH_LOG"


def dag() -> Dag:
    low = [node("task@1", n=n) for n in range(150)]
    return Dag(*[node("task@1", *low[n : n + 3], n=1000 + n) for n in range(0, 150, 3)])


def task(op: str, inputs: tuple[int, ...], params: Mapping[str, Any]) -> int:
    time.sleep(SECONDS)
    if LOG in os.environ:
        with open(os.environ[LOG], "ab", buffering=0) as log:
            log.write(f"{params['n']} {os.getpid()}\n".encode())
    return sum(inputs) + int(params["n"])


def written(log: Path) -> list[tuple[int, int]]:
    """The tasks that were done, as n and pid; a line is written at once, so there is no half of one."""
    text = log.read_text("ascii") if log.exists() else ""
    return [(int(n), int(pid)) for n, pid in (line.split() for line in text.splitlines())]


# --- the child ----------------------------------------------------------------------------------


def child(kind: str, folder: Path) -> None:
    from tests.crash.parallel import task as importable  # not of __main__, so that any worker finds it

    fed = artdag_fed.open(folder)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(grouping, "GROUP_RESULTS", GROUP))
        stack.enter_context(mock.patch.object(grouping, "GROUP_SECONDS", 1e6))
        if kind == "cluster":
            from distributed import Client, LocalCluster

            cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
            stack.enter_context(cluster)
            executor = stack.enter_context(Client(cluster)).get_executor()
        else:
            executor = stack.enter_context(ProcessPoolExecutor(WORKERS))
        run(fed, dag(), importable, executor=executor)


# --- the parent ---------------------------------------------------------------------------------


def attempt(kind: str, scratch: Path) -> list[str]:
    """Kill, run again, and say what is wrong."""
    folder, log, said = scratch / kind, scratch / f"{kind}.log", scratch / f"{kind}.err"
    command = [sys.executable, "-m", "tests.crash.parallel", "--child", kind, str(folder)]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    env = {**os.environ, LOG: str(log), "PYTHONPATH": paths}
    with said.open("wb") as errors:
        process = subprocess.Popen(command, env=env, stdout=errors, stderr=errors, cwd=ROOT)
    until = time.monotonic() + LONG
    while len(written(log)) < ENOUGH and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    victim = process.pid if kind == "parent" else written(log)[-1][1]
    os.kill(victim, signal.SIGKILL)
    try:
        status = process.wait(LONG)
    except subprocess.TimeoutExpired:
        process.kill()
        return [f"{kind}: the run did not end within {LONG:.0f} s of the kill"]
    if kind == "parent":  # its workers wait for it forever, as those of any killed ProcessPoolExecutor do
        for pid in {pid for _, pid in written(log)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    first = Counter(n for n, _ in written(log))

    nodes = dag()
    fed = artdag_fed.open(folder)
    kept = sum(one.cid in fed for one in nodes)
    second = run(fed, nodes, task)
    computed = {n.params["n"] for n in nodes if n.cid in set(second.computed)}
    again = len(computed & first.keys()) + sum(first.values()) - len(first)
    most = UNDER_WAY + (GROUP if kind == "parent" else 0)
    print(
        f"{kind}: of {len(nodes)} nodes {len(first)} were done in the first run and {kept} kept; the second computed"
        f" {len(computed)}; done twice: {again} (at most {most})",
        flush=True,
    )
    text = said.read_text("utf-8", "replace")
    wrong = []
    if again > most:
        wrong.append(f"{kind}: {again} nodes were done twice, at most {most} may be")
    if second.results != tuple(value(target) for target in nodes.targets):
        wrong.append(f"{kind}: the results are wrong")
    if kind == "worker" and (status != 1 or RunError.__name__ not in text or "the executor broke" not in text):
        wrong.append(f"{kind}: the run ended with {status} and said {text[-500:]}")
    if kind == "cluster" and (status != 0 or computed):
        wrong.append(f"{kind}: the cluster did not go on without its worker ({status}): {text[-500:]}")
    return wrong


def value(top: Node) -> int:
    return sum(int(one.params["n"]) for one in Dag(top))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.parallel")
    parser.add_argument("kinds", nargs="*", help="worker, parent, cluster (default: all)")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child[0], Path(asked.child[1]))
        return 0
    kinds = asked.kinds if asked.kinds else ["worker", "parent", "cluster"]
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind in kinds:
            if kind == "cluster" and importlib.util.find_spec("distributed") is None:
                print("cluster: left out, Dask is not installed (dependency group interop)")
                continue
            wrong += attempt(kind, Path(scratch))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
