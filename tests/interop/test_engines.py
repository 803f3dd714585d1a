"""The same DAG through engines that others made: loky, and a Dask cluster.

Rules: run by `.ci/run` on their own, since they need packages that nothing else here does (`--group interop`); left out
where those are not installed.
"""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

import artdag_fed
from artdag_fed import Federation, Node, RunError, node, run

pytestmark = pytest.mark.filterwarnings("default")  # theirs are theirs


def add(*inputs: Node, n: int = 1) -> Node:
    return node("add@1", *inputs, n=n)


def wide(count: int) -> Node:
    low = [add(n=n) for n in range(1, count + 1)]
    mid = [add(a, b, a, n=1000) for a, b in itertools.pairwise(low)]
    return add(*mid, *low, n=5)


def sums(op: str, inputs: tuple[int, ...], params: Mapping[str, Any]) -> int:
    return sum(inputs) + int(params["n"])


def fails(op: str, inputs: tuple[int, ...], params: Mapping[str, Any]) -> int:
    if params["n"] == 7:
        raise ZeroDivisionError("7 went wrong")
    return sums(op, inputs, params)


@pytest.fixture(scope="module")
def loky() -> Iterator[Executor]:
    made = pytest.importorskip("loky").ProcessPoolExecutor(2)
    yield made
    made.shutdown(kill_workers=True)


@pytest.fixture(scope="module")
def dask() -> Iterator[Executor]:
    distributed = pytest.importorskip("distributed")
    here = str(Path(__file__).parent)
    sys.path.insert(0, here)
    os.environ["PYTHONPATH"] = os.pathsep.join([*os.environ.get("PYTHONPATH", "").split(os.pathsep), *sys.path])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with cluster, distributed.Client(cluster) as client:
            yield client.get_executor()


def same_as_in_one_thread(executor: Executor, path: Path) -> None:
    top = wide(30)
    one = run(Federation(), top, sums)
    fed = artdag_fed.open(path)
    done = run(fed, top, sums, executor=executor)
    assert (done.value, set(done.computed), done.reused) == (one.value, set(one.computed), ())
    assert {cid: fed.cache[cid] for cid in fed} == {cid: one[cid] for cid in one.computed}
    again = run(fed, top, sums, executor=executor)
    assert (again.value, again.computed, again.reused) == (one.value, (), (top.cid,))
    with pytest.raises(RunError) as caught:
        run(Federation(), add(wide(5), n=7), fails, executor=executor)
    assert type(caught.value.__cause__) is ZeroDivisionError
    offset = 3
    local = run(
        fed, add(n=50), lambda op, inputs, params: params["n"] + offset, executor=executor
    )  # both send closures
    assert local.value == 53


def test_loky_gives_what_one_thread_gives(loky: Executor, tmp_path: Path) -> None:
    same_as_in_one_thread(loky, tmp_path / "instance")


def test_a_dask_cluster_gives_what_one_thread_gives(dask: Executor, tmp_path: Path) -> None:
    same_as_in_one_thread(dask, tmp_path / "instance")


def test_a_dask_client_is_refused_with_what_to_pass(dask: Any) -> None:
    with pytest.raises(TypeError, match=r"client\.get_executor"):
        run(Federation(), add(), sums, executor=dask._client)
