"""`python -m tests.bench.parallel [--rounds N]`: runs through a pool of two processes, beside one bare `submit` each.

Rules: the same pool for both sides where it is warm; where it is started inside the timing, a new one for each.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import artdag_fed
from artdag_fed import Dag, DiskCache, Federation, node, run
from artdag_fed.callables import Runner
from tests.bench.measure import Round, ratio


def sleeping(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
    """10 ms that take no core: on a machine that others use as well, what is measured is us, not them."""
    time.sleep(0.01)
    return int(params["n"])


def trivial(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> dict[str, int]:
    return {"n": params["n"], "of": len(inputs)}


def bare(pool: ProcessPoolExecutor, runner: Runner, count: int) -> list[Any]:
    return [f.result() for f in [pool.submit(runner, "add@1", (), {"n": n}) for n in range(count)]]


def pair(pool: ProcessPoolExecutor | None, runner: Runner, count: int, method: str = "fork") -> tuple[Round, Round]:
    dag = Dag(*[node("add@1", n=n) for n in range(count)])

    def through(work: Callable[[ProcessPoolExecutor], object]) -> Round:
        def timed() -> object:
            if pool is not None:
                return work(pool)
            with ProcessPoolExecutor(2, get_context(method)) as new:
                return work(new)

        return lambda folder: timed

    ours = through(lambda pool: run(Federation(), dag, runner, executor=pool))
    return ours, through(lambda pool: bare(pool, runner, count))


def chained(pool: ProcessPoolExecutor, count: int) -> tuple[Round, Round]:
    made = []
    for n in range(count):
        made.append(node("add@1", *made[-1:], n=n) if n % 10 else node("add@1", n=n))

    def ours(folder: Path) -> Callable[[], object]:
        def timed() -> None:
            fed = artdag_fed.open(folder / "cache")
            run(fed, Dag(*made), trivial, executor=pool)
            cast(DiskCache, fed.cache).close()

        return timed

    return ours, lambda folder: lambda: bare(pool, trivial, count)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.parallel")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        bare(pool, trivial, 10)
        ratio("200 tasks of 10 ms, pool warm", *pair(pool, sleeping, 200), 1.08, rounds)
        ratio("10,000 trivial nodes, pool warm, in memory", *pair(pool, trivial, 10_000), 0.4, rounds)
        ratio("10,000 trivial nodes in chains of ten, pool warm, kept on disk", *chained(pool, 10_000), 1, rounds)
    for method in ("fork", "spawn"):
        what = f"200 tasks of 10 ms, pool started inside the timing, {method}"
        ratio(what, *pair(None, sleeping, 200, method), 1.08, rounds)


if __name__ == "__main__":
    main()
