"""What travels to a worker, and what comes back: a few steps of a DAG at a time, done in a thread or process elsewhere.

Rules: the runner, ops, inputs and params travel, never a cache and never a `Node`; a value that several steps need goes
once, and a result that only the next step needs does not come back first. What a runner raises comes back as itself
wherever that is safe, so that a strange exception cannot break the pool that has to carry it. A worker that finds its
steps slower than was thought gives the rest of them back. Where nothing comes back, an error names the likely cause.

>>> chunk = Chunk(lambda op, inputs, params: sum(inputs) + params["n"], [("add@1", (0, 0), {"n": 1})], [20])
>>> perform(chunk).results
[41]
"""

from __future__ import annotations

import copy
import os
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from types import MappingProxyType
from typing import Any, NamedTuple

from artdag_fed.callables import Runner, said
from artdag_fed.names import shown
from artdag_fed.ops import Ops

__all__ = ["Answer", "Chunk", "Step", "perform", "why_broken", "why_refused"]

MOST_SECONDS = 0.1  # after that, what is left of a chunk goes back: others may be idle

Step = tuple[str, Sequence[int], dict[str, Any]]
"""op, where each input is, params. An input is `given[i]`, or where i is negative, the result of step `~i`."""

PLAIN = frozenset({type(None), bool, int, float, str, bytes})


class Chunk:
    """Some steps, inputs before what uses them. Opaque on purpose: an engine that looks for its own futures in the
    arguments, as Dask does, would walk through lists and tuples."""

    __slots__ = ("given", "go_on", "mark", "runner", "steps")

    def __init__(self, runner: Runner, steps: list[Step], given: list[Any], go_on: bool = False) -> None:
        self.runner = runner
        self.steps = steps
        self.given = given
        self.go_on = go_on  # after a step that failed
        # Says to a worker whether it is in the same process, and to engines that join equal calls that this is another.
        self.mark = os.getpid(), time.monotonic_ns()


class Answer(NamedTuple):
    """Results and seconds of the steps, as far as they were done; errors by position, with their tracebacks as text.

    A step that was not done for want of an input has the result None and no error.
    """

    results: list[Any]
    seconds: list[float]
    errors: dict[int, tuple[BaseException, str]]


def perform(chunk: Chunk) -> Answer:
    """Do the steps in their order. Raises nothing of the runner's."""
    runner, given = chunk.runner, chunk.given
    results: list[Any] = []
    seconds: list[float] = []
    errors: dict[int, tuple[BaseException, str]] = {}
    broken: set[int] = set()
    clock = time.perf_counter
    first = last = clock()
    for op, places, params in chunk.steps:
        if results and last - first > MOST_SECONDS:
            break
        result = None
        if broken and any(~i in broken for i in places):
            broken.add(len(results))
        else:
            inputs = tuple([given[i] if i >= 0 else results[~i] for i in places])
            try:
                result = runner(op, inputs, MappingProxyType(params))
            except BaseException as error:  # noqa: BLE001  # whatever it is, it is for the one who waits for the answer
                errors[len(results)] = _portable(error, chunk.mark[0] == os.getpid())
                broken.add(len(results))
        results.append(result)
        before, last = last, clock()
        seconds.append(last - before)
        if broken and not (chunk.go_on and all(isinstance(error, Exception) for error, _ in errors.values())):
            break
    return Answer(results, seconds, errors)


def _portable(error: BaseException, here: bool) -> tuple[BaseException, str]:
    """The error itself where it surely can be made again on the other side, else a `RuntimeError` that says the same.

    An exception that can be pickled but not unpickled takes a whole `ProcessPoolExecutor` down.
    """
    if here:
        return error, ""
    text = "".join(traceback.format_exception(error))
    kind = type(error)
    plain = all(type(part) in PLAIN for part in error.args) and not getattr(error, "__dict__", None)
    if plain and getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind:
        try:
            same = type(copy.copy(error)) is kind  # goes the way that pickling goes: `__reduce_ex__`
        except Exception:  # noqa: BLE001  # a constructor of someone else's
            same = False
        if same:
            return error.with_traceback(None), text
    return RuntimeError(said(error)) if isinstance(error, Exception) else error.with_traceback(None), text


# --- where nothing comes back -----------------------------------------------------------------


def why_refused(executor: object, runner: Runner, inputs: Sequence[tuple[str, object]]) -> str:
    """What it was that an executor could not send, where that can be found out: " (...)", or ""."""
    from concurrent.futures import ProcessPoolExecutor

    if not isinstance(executor, ProcessPoolExecutor):
        return ""  # the others have ways of their own to pickle
    if _unpicklable(runner):
        if lost := _unreachable(runner):
            return f" ({lost})"
        return f" (the runner {_name(runner)} cannot be pickled: put it at the top level of a module, or use threads)"
    for at, (op, value) in enumerate(inputs):
        if _unpicklable(value):
            return f" (input {at}, a {type(value).__name__} of {shown(op)}, cannot be pickled)"
    return " (its result cannot be pickled)"


def why_broken(error: BaseException, runner: Runner, ops: Sequence[str]) -> str:
    """What to say of an executor that broke, or takes no work, with `ops` under way."""
    names = list(dict.fromkeys(ops))
    under_way = ", ".join(map(shown, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    what, why = "broke", "A worker was killed, or ran out of memory; or it could not import "
    if not isinstance(error, BrokenExecutor):
        what, why = "takes no more work", "It was shut down, or its client was closed."
    elif lost := _unreachable(runner):
        why = (
            f"New processes may not find what the runner needs: {lost}. loky and Dask send such functions along. "
            "Otherwise a worker was killed, or ran out of memory."
        )
    elif getattr(runner, "__module__", "") == "__main__":
        why = (
            f"The runner {_name(runner)} was defined in a notebook, at a prompt or in a script, where new processes do "
            "not find it: put it in a module, or use threads. Otherwise a worker was killed, or ran out of memory."
        )
    else:
        why += (
            f"the runner {_name(runner)}, or a function that it calls: what is defined in a notebook, at a prompt or "
            "in a script (__main__) is not found by new processes, so put it in a module, or use threads."
        )
    return f"the executor {what} ({said(error)}) with {under_way} under way. {why} What was finished before it is kept."


def _unreachable(runner: Runner) -> str:
    """Which functions of an `Ops` another process may not find, and what to do; "" where it finds all."""
    told = [f"{shown(op)}: {why}" for op, why in runner.unreachable().items()] if isinstance(runner, Ops) else []
    return "; ".join(told[:3]) + (f"; and {len(told) - 3} more ops" if len(told) > 3 else "")


def _unpicklable(value: object) -> bool:
    from multiprocessing.reduction import ForkingPickler  # what a `ProcessPoolExecutor` sends with

    try:
        ForkingPickler.dumps(value)
    except Exception:  # noqa: BLE001  # pickling raises whatever it likes
        return True
    return False


def _name(runner: Runner) -> str:
    named: Any = runner if hasattr(runner, "__qualname__") else type(runner)
    return f"{named.__module__}.{named.__qualname__}"
