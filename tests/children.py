"""Forked processes that a test works with."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any


class Child:
    """A forked process that does `work` and hands back what it returned, or what it raised as an `AssertionError`."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                answer = True, work()
            except BaseException:
                answer = False, traceback.format_exc()
            with open(write, "wb") as file:
                pickle.dump(answer, file)
            os._exit(0)
        os.close(write)

    def result(self) -> Any:
        with open(self._read, "rb") as file:
            said = file.read()
        os.waitpid(self.pid, 0)
        done, answer = pickle.loads(said)
        assert done, f"in the child: {answer}"
        return answer


def all_at_once(work: Callable[[int], Any], count: int) -> None:
    """Does `work(0)`, `work(1)`, ... in forked processes that begin together; raises what one of them raised."""
    gate, opens = os.pipe()

    def begin(me: int) -> None:
        os.close(opens)
        os.read(gate, 1)  # ends for all of them at once, when the parent closes its end
        work(me)

    children = [Child(partial(begin, me)) for me in range(count)]
    os.close(opens)
    for child in children:
        child.result()
    os.close(gate)
