"""The same DAG through engines that others made: loky, and a Dask cluster.

Rules: run by `.ci/run` on their own, since they need packages that nothing else here does (`--group interop`); left out
where those are not installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

import artdag_fed
from artdag_fed import Federation, RunError, run
from tests.sums import add, sums, wide

pytestmark = pytest.mark.filterwarnings("default")  # theirs are theirs


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


NOTEBOOK = """
import sys
from artdag_fed import Federation, Ops, run

ops = Ops("studio")
gain = 10

@ops.op
def load(n):
    return [n, n + 1]

@ops.op(version=2)
def scale(frame, factor=2):
    return [gain * factor * pixel for pixel in frame]

def more():
    offset = 3
    @ops.op
    def shift(frame):
        return [pixel + offset for pixel in frame]
    return shift

target = more()(scale(load(4)))
if sys.argv[1] == "loky":
    from loky import ProcessPoolExecutor
    executor = ProcessPoolExecutor(1)
else:
    from distributed import Client, LocalCluster
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)
    executor = Client(cluster).get_executor()
done = run(Federation(), target, ops, executor=executor)
print(done.value, len(done.computed))
if sys.argv[1] == "loky":
    executor.shutdown(kill_workers=True)
else:
    executor._client.close()
    cluster.close()
"""
"""What stands in the cells: as in a notebook, `__main__` has no file that a new process could read."""


@pytest.mark.parametrize(("engine", "module"), [("loky", "loky"), ("dask", "distributed")])
def test_ops_from_a_notebook_compute_through_what_sends_functions(engine: str, module: str) -> None:
    pytest.importorskip(module)
    environ = os.environ | {"PYTHONPATH": str(Path(artdag_fed.__file__).parents[1])}
    command = [sys.executable, "-c", NOTEBOOK, engine]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[83, 103] 3\n"), done.stderr


def test_a_dask_client_is_refused_with_what_to_pass(dask: Any) -> None:
    with pytest.raises(TypeError, match=r"client\.get_executor"):
        run(Federation(), add(), sums, executor=dask._client)
