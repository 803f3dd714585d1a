"""What many tests share: the three kinds of instance, a runner that counts, pools, and the places that tests work in.

Rules: a test that takes `make` runs three times: over a plain dict, over `open()` and over `open(path)`; `again` gives
what a user has after the process ended, where that is anything at all.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import artdag_fed
from artdag_fed import DiskCache, Federation, Record, import_
from artdag_fed.transports import folder
from tests.instances import Again, Make, everyone
from tests.sums import Counting


def pytest_configure() -> None:
    # A shell starts what it puts in the background with Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["dict", "open()", "open(path)"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes instances of one kind, each a new one; what is open at the end is closed."""
    made: list[Federation] = []

    def make_one() -> Federation:
        if request.param == "dict":
            fed = Federation({})
        elif request.param == "open()":
            fed = artdag_fed.open()
        else:
            fed = artdag_fed.open(tmp_path / f"instance-{len(made)}")
        made.append(fed)
        return fed

    yield make_one
    for fed in made:
        fed.cache.close()  # type: ignore[attr-defined]  # every cache inside a Federation has it


@pytest.fixture
def fed(make: Make) -> Federation:
    """One empty instance of each kind."""
    return make()


@pytest.fixture
def again() -> Iterator[Again]:
    """A durable instance opened a second time; one in memory as it is."""
    opened: list[Federation] = []

    def reopened(fed: Federation) -> Federation:
        if isinstance(fed.cache, DiskCache):
            fed = artdag_fed.open(fed.cache.path)
            opened.append(fed)
        return fed

    yield reopened
    for fed in opened:
        fed.cache.close()  # type: ignore[attr-defined]  # as above


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[Federation]:
    """One empty instance on disk."""
    fed = artdag_fed.open(tmp_path / "durable")
    yield fed
    fed.cache.close()  # type: ignore[attr-defined]  # as above


@pytest.fixture
def runner() -> Counting:
    """One that was asked nothing yet."""
    return Counting()


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return tmp_path / "drive"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of at most four records."""
    monkeypatch.setattr(folder, "SEGMENT_RECORDS", 4)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[DiskCache]:
    cache = DiskCache(tmp_path / "c")
    yield cache
    cache.close()


@pytest.fixture
def used(fed: Federation) -> Iterator[Federation]:
    """An instance with a local and a foreign result; checked to be unchanged at the end."""
    fed.cache["mine"] = "local"
    fed = import_(fed, [Record("theirs", "foreign", "alice", {"carol"})], everyone)
    yield fed
    now = import_(fed, [], everyone)
    assert {cid: now.cache[cid] for cid in now} == {"mine": "local", "theirs": "foreign"}
    assert (dict(now.provenance), dict(now.lineage)) == ({"theirs": "alice"}, {"theirs": frozenset({"carol"})})


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """A pool for one test."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """A pool for the tests of a module, since to start one takes a while."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield pool
