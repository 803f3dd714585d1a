"""Evaluating a DAG through an executor: threads, processes, a cluster.

Rules: a node is submitted when its inputs are done, and few at a time are under way; results are kept as they come, by
the thread that runs, which alone speaks to the cache. Cheap nodes go together, so that handing them over costs less
than computing them, and dear ones alone; chains of cheap ones go as a whole. The first in depth-first order goes first,
so that few values are in hand. Whatever happens, what has come back is kept and what was not begun is cancelled; an
executor is never shut down here.

Refuses to guess after a pool broke: that is a `RunError` that says what it may have been.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from heapq import heappop, heappush
from typing import Any

from artdag_fed.dag import Node
from artdag_fed.errors import RunError
from artdag_fed.execute import Work
from artdag_fed.names import Cid, shown
from artdag_fed.workers import Answer, Chunk, Step, perform, why_broken, why_refused

__all__ = ["check_executor", "through"]

CHUNK_SECONDS = 0.02  # of work in one submission at most: a hundred times what one costs, short enough for a fair end
LEAST_SECONDS = 0.002  # of work in one submission at least, where there are nodes enough
NODE_SECONDS = 20e-6  # what a node costs on its way to a worker and back, however trivial it is
WORKERS = 64  # taken for an executor that does not say how many it has, such as a cluster's


def check_executor(executor: object) -> None:
    """Raise `TypeError` unless it has what is needed of `concurrent.futures.Executor`: a `submit`."""
    if not callable(getattr(executor, "submit", None)) or isinstance(executor, type):
        hint = ": make one, ThreadPoolExecutor()" if isinstance(executor, type) else ""
        hint = ": pass client.get_executor()" if hasattr(executor, "get_executor") else hint
        raise TypeError(f"executor must be a concurrent.futures.Executor, not {shown(type(executor).__name__)}{hint}")
    if hasattr(executor, "get_executor"):  # a Dask client has a submit of its own, which gives other futures
        raise TypeError("executor must be a concurrent.futures.Executor: pass client.get_executor()")


def through(executor: Executor) -> Callable[[Work], None]:
    """An `evaluate` for `execute` that computes through `executor`."""
    costs: dict[str, float] = {}  # seconds by op, as measured in this run
    return lambda work: _Schedule(work, executor, costs).evaluate()


class _Schedule:
    """What is to be done yet: nodes that wait for inputs, nodes that are ready, nodes that are under way."""

    def __init__(self, work: Work, executor: Executor, costs: dict[str, float]) -> None:
        self.work = work
        self.executor = executor
        self.costs = costs
        workers = getattr(executor, "_max_workers", None)
        self.workers = workers if isinstance(workers, int) and workers > 0 else WORKERS
        self.nodes: dict[Cid, Node] = {}  # everything to be computed, found so far
        self.order: dict[Cid, int] = {}  # its place, depth first
        self.lacking: dict[Cid, int] = {}  # how many inputs it waits for
        self.users: dict[Cid, list[Node]] = {}  # who waits for it
        self.ready: list[tuple[int, Cid]] = []
        self.flying: dict[Future[Answer], list[Node]] = {}
        self.away: set[Cid] = set()  # the same by cid
        self.over: set[Cid] = set()  # has a value, or failed
        self.elsewhere: set[Cid] = set()  # being computed by another run
        self.alone: set[Cid] = set()  # not to share a chunk: the last one broke

    def evaluate(self) -> None:
        """Have a value for every target, or a failure."""
        work, inbox = self.work, self.work.claimant.inbox
        try:
            for target in work.targets:
                if target.cid not in work.values and (target.cid in work.planned or not work.have(target.cid)):
                    self.expand(target)
            while self.ready or self.flying or self.elsewhere:
                while self.ready and len(self.flying) < 2 * self.workers + 2:
                    self.submit()
                if not self.flying:
                    if self.ready:
                        continue
                    if not self.elsewhere:
                        break
                    work.group.flush()  # nobody may wait for this run while it waits
                self.take_in(inbox.get())
        except BaseException:
            self.give_up()
            raise

    # --- finding out what there is to do ------------------------------------------------------

    def expand(self, top: Node) -> None:
        """Register a node that has to be computed, and everything below that is known to be missing."""
        work, nodes = self.work, self.nodes
        values, planned, digests, failed = work.values, work.planned, work.digests, work.done.failed
        stack = [top]
        while stack:
            node = stack[-1]
            if node.cid in nodes:
                stack.pop()
                continue
            if node.cid not in planned:  # found missing only now
                work.plan(node)
            needs = {
                i.cid: i
                for i in node.inputs
                if i.cid not in values and (i.cid in failed or (i.cid in planned and i.cid not in digests))
            }
            new = [i for cid, i in needs.items() if cid not in nodes and cid not in failed]
            if new:
                stack.extend(reversed(new))
                continue
            stack.pop()
            nodes[node.cid] = node
            self.order[node.cid] = len(self.order)
            self.wait_for(node, list(needs.values()))

    def wait_for(self, node: Node, needs: list[Node]) -> None:
        """Have a node wait for these, or be ready; one of them may have failed already."""
        broken = [i for i in needs if i.cid in self.work.done.failed]
        if broken:
            self.work.skip(node, broken[0])
            self.settle(node)
            return
        self.lacking[node.cid] = len(needs)
        for i in needs:
            self.users.setdefault(i.cid, []).append(node)
        if not needs:
            heappush(self.ready, (self.order[node.cid], node.cid))

    def settle(self, done: Node) -> None:
        """Tell those that wait for a node that it has a value, or none."""
        work = self.work
        settled = [done]
        while settled:
            node = settled.pop()
            self.over.add(node.cid)
            failed = node.cid in work.done.failed
            for user in self.users.pop(node.cid, ()):
                if user.cid in work.done.failed:
                    continue
                if failed:
                    work.skip(user, node)
                    settled.append(user)
                    continue
                self.lacking[user.cid] -= 1
                if not self.lacking[user.cid] and user.cid not in self.away:
                    heappush(self.ready, (self.order[user.cid], user.cid))

    # --- submitting -----------------------------------------------------------------------------

    def submit(self) -> None:
        """Put ready nodes together, as many as are worth one submission, and submit them."""
        work = self.work
        chosen, chunk = self.gather()
        if not chosen:
            return
        self.away.update(node.cid for node in chosen)
        try:
            future = self.executor.submit(perform, chunk)
        except Exception as error:  # some pickle at once, and raise what pickling raises
            if isinstance(error, BrokenExecutor) or type(error) is RuntimeError:
                raise self.broken(error, chosen) from error
            self.came_back(chosen)
            self.refused(chosen, error)
            return
        self.flying[future] = chosen
        future.add_done_callback(work.claimant.inbox.put)

    def gather(self) -> tuple[list[Node], Chunk]:
        work, costs, ready = self.work, self.costs, self.ready
        chosen: list[Node] = []
        steps: list[Step] = []
        given: list[Any] = []
        place: dict[Cid, int] = {}
        chunk = Chunk(work.runner, steps, given, work.keep_going)
        most = spent = 0.0
        until = time.monotonic() + CHUNK_SECONDS  # loading inputs counts as well
        chained: list[Node] = []
        while chained or ready:
            if chained:
                node = chained.pop()
                cost = costs.get(node.op, CHUNK_SECONDS)
                if spent + cost > CHUNK_SECONDS:
                    break
            else:
                node = self.nodes[ready[0][1]]
                cost = costs.get(node.op, CHUNK_SECONDS)
                if not chosen:
                    # The end is fair if everyone gets several of the chunks that are left.
                    most = min(max(len(ready) * cost / (2 * self.workers), LEAST_SECONDS), CHUNK_SECONDS)
                elif spent + cost > most or node.cid in self.alone or time.monotonic() > until:
                    break
                heappop(ready)
            if not self.claim(node, place):
                continue
            for i in node.inputs:
                if i.cid not in place:
                    place[i.cid] = len(given)
                    given.append(work.values[i.cid])
            steps.append((node.op, [place[i.cid] for i in node.inputs], dict(node.params)))
            place[node.cid] = ~len(chosen)
            chosen.append(node)
            spent += cost
            if node.cid in self.alone or spent >= CHUNK_SECONDS:
                break
            follower = self.follower(node, place)
            if follower is not None:
                chained.append(follower)
        return chosen, chunk

    def follower(self, node: Node, place: dict[Cid, int]) -> Node | None:
        """The node that alone waits for this one, and for nothing that is not in the chunk with it."""
        users = self.users.get(node.cid, ())
        if len(users) != 1 or users[0].cid in self.alone or users[0].cid in place:
            return None
        here = sum(place.get(cid, 0) < 0 for cid in {i.cid for i in users[0].inputs})
        return users[0] if here == self.lacking[users[0].cid] else None

    def claim(self, node: Node, place: dict[Cid, int]) -> bool:
        """Whether a node can go now: its inputs are in hand or before it in the chunk, and no other run is at it."""
        work, cid = self.work, node.cid
        if cid in self.over or cid in self.away:
            return False
        missing = [i for i in node.inputs if i.cid not in work.values and i.cid not in place and not work.have(i.cid)]
        if missing:
            for i in missing:
                if i.cid in self.over and i.cid not in work.done.failed:  # let go of, and damaged or gone since
                    self.over.discard(i.cid)
                    del self.nodes[i.cid]
                if i.cid not in work.done.failed:
                    self.expand(i)
            self.wait_for(node, list({i.cid: i for i in missing}.values()))
            return False
        if cid in work.claimant.news and work.have(cid):
            self.settle(node)
            return False
        if not work.claimant.take(cid) and not work.refresh:
            self.elsewhere.add(cid)
            return False
        if cid in work.claimant.news:  # another run was done with it in this very moment
            work.claimant.release([cid])
            heappush(self.ready, (self.order[cid], cid))
            return False
        return True

    # --- what comes back ------------------------------------------------------------------------

    def take_in(self, message: Any) -> None:
        """A future that is done, or the cids that another run has let go of."""
        if isinstance(message, set):
            for cid in self.elsewhere & message:
                self.elsewhere.discard(cid)
                heappush(self.ready, (self.order[cid], cid))
            return
        chosen = self.flying.get(message)
        if chosen is None:  # of an evaluation before this one, which was given up
            return
        try:
            error = message.exception()
        except CancelledError as cancelled:
            raise self.broken(cancelled, chosen) from cancelled
        if error is None:
            self.keep(chosen, message.result())
        del self.flying[message]  # only now: what Ctrl-C interrupts here is kept by `give_up`
        if error is None:
            return
        self.came_back(chosen)
        if isinstance(error, BrokenExecutor):
            raise self.broken(error, chosen) from error
        elif isinstance(error, Exception):
            self.refused(chosen, error)
        else:
            raise error

    def came_back(self, chosen: list[Node]) -> None:
        self.away.difference_update([node.cid for node in chosen])

    def keep(self, chosen: list[Node], answer: Answer) -> None:
        """Keep what was done, tell of what failed, and have the rest wait for its turn again."""
        work, failed = self.work, self.work.done.failed
        done = len(answer.results)
        spent: dict[str, list[float]] = {}
        for at, node in enumerate(chosen[:done]):
            if at in answer.errors:
                error, text = answer.errors[at]
                if text:
                    error.add_note(f"In a worker:\n{text}")
                if not isinstance(error, Exception):
                    raise error
                work.fail(node, error, "failed")
            elif node.cid not in failed:  # else skipped, when its input was settled
                spent.setdefault(node.op, []).append(answer.seconds[at])
                work.keep(node, answer.results[at], answer.seconds[at], work.clock())
            self.away.discard(node.cid)
            self.settle(node)
        self.came_back(chosen[done:])
        self.again(chosen[done:])
        for op, seconds in spent.items():
            cost = sum(seconds) / len(seconds) + NODE_SECONDS
            self.costs[op] = (self.costs.get(op, cost) + cost) / 2

    def again(self, chosen: list[Node]) -> None:
        self.work.claimant.release([node.cid for node in chosen])
        for node in chosen:
            if not self.lacking[node.cid]:
                heappush(self.ready, (self.order[node.cid], node.cid))

    def refused(self, chosen: list[Node], error: Exception) -> None:
        """The executor could not hand over the chunk, or its answer: find out by itself which node it was."""
        if len(chosen) > 1:
            self.alone.update(node.cid for node in chosen)
            self.again(chosen)
            return
        node = chosen[0]
        inputs = [(i.op, self.work.values.get(i.cid)) for i in node.inputs]
        why = why_refused(self.executor, self.work.runner, inputs)
        self.work.fail(node, error, f"could not be handed to a worker, or its result back{why}")
        self.settle(node)

    # --- the end --------------------------------------------------------------------------------

    def broken(self, error: BaseException, chosen: list[Node]) -> RunError:
        ops = [node.op for nodes in (chosen, *self.flying.values()) for node in nodes]
        return RunError(why_broken(error, self.work.runner, ops), cid=chosen[0].cid, op=chosen[0].op)

    def give_up(self) -> None:
        """Cancel what was not begun, and keep what has come back already."""
        for future in self.flying:
            future.cancel()
        for future, chosen in self.flying.items():
            if not future.done() or future.cancelled() or future.exception() is not None:
                continue
            answer = future.result()
            for at, node in enumerate(chosen[: len(answer.results)]):
                if node.cid in self.work.digests:
                    continue
                if at in answer.errors or any(i.cid not in self.work.digests for i in node.inputs):
                    break
                with contextlib.suppress(Exception):  # why the run ends is known already
                    self.work.keep(node, answer.results[at], answer.seconds[at], self.work.clock())
