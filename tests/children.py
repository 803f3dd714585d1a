"""A forked process that a test works with."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
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
