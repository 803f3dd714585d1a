"""The same work on many items, on all cores: forked children that share nothing, and send back what they found.

Rules: what the work needs it has by the fork, so nothing but results is pickled; results come as they are made, in no
order. A child that fails makes the whole fail.

>>> sorted(spread(lambda n: n * n, [1, 2, 3], cores=2))
[1, 4, 9]
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from typing import TypeVar

__all__ = ["spread"]

T = TypeVar("T")
R = TypeVar("R")


def spread(work: Callable[[T], R], items: Sequence[T], cores: int | None = None) -> Iterator[R]:
    """`work(item)` for each item. Raises `RuntimeError` where a child ended before its share was done."""
    count = max(1, min(cores or os.cpu_count() or 1, len(items)))
    children: dict[Connection, int] = {}
    for number in range(count):
        here, there = Pipe(duplex=False)
        pid = os.fork()
        if pid == 0:
            _share(work, items[number::count], there)
        there.close()
        children[here] = pid
    while children:
        for ready in wait(list(children)):
            assert isinstance(ready, Connection)
            try:
                yield ready.recv()
            except EOFError:
                ready.close()
                status = os.waitstatus_to_exitcode(os.waitpid(children.pop(ready), 0)[1])
                if status:
                    raise RuntimeError(f"a worker ended with {status}") from None


def _share(work: Callable[[T], R], items: Sequence[T], there: Connection) -> None:
    """In the child: does its share and ends there."""
    status = 1
    try:
        for item in items:
            there.send(work(item))
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)
