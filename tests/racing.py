"""What tests of races share: another process that does something at the right moment, and what may be left.

Rules: a test module takes the fixtures by naming them at its top; its `fed` then runs in memory and on disk.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import DiskCache, Federation, MemoryCache, node
from tests.children import Child


@pytest.fixture(params=["memory", "disk"])
def fed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Federation]:
    cache = MemoryCache() if request.param == "memory" else DiskCache(tmp_path / "c")
    yield Federation(cache)
    cache.close()


@pytest.fixture
def disk(cache: DiskCache) -> DiskCache:
    return cache


def anyone(peer: str) -> bool:
    return True


def elsewhere(fed: Federation, how: str, do: Callable[[Federation], object]) -> None:
    """Do it to the same cache: with the same object, through another one, or from another process."""
    cache = fed.cache
    if how == "here" or isinstance(cache, MemoryCache):
        do(fed)
        return
    assert isinstance(cache, DiskCache)
    path = cache.path

    def there() -> None:
        other = DiskCache(path)
        do(Federation(other))
        other.close()

    if how == "another object":
        there()
    else:
        Child(there).result()


def others_can_write_at_once(cache: DiskCache) -> None:
    """Whether a process that does not wait gets the whole index for itself."""
    path = os.path.join(cache.path, "index.sqlite3")

    def lock() -> None:
        db = sqlite3.connect(path, isolation_level=None, timeout=0)
        db.execute("BEGIN EXCLUSIVE")
        db.execute("ROLLBACK")
        db.close()

    Child(lock).result()


class Runner:
    """Computes "x" and what is built on it, says what it was asked for, and does something once, at one op."""

    def __init__(self, at: str, do: Callable[[], object]) -> None:
        self.at, self.do = at, do
        self.asked: list[str] = []

    def __call__(self, op: str, inputs: tuple[Any, ...], params: Any) -> Any:
        self.asked.append(op)
        if op == self.at and self.asked.count(op) == 1:
            self.do()
        return f"{op}({', '.join(inputs)})" if inputs else f"my {op}"


x = node("x")
y = node("y", x)
z = node("z", y)
HOW = pytest.mark.parametrize("how", ["here", "another object", "another process"])
