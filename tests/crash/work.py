"""The verbs that are interrupted, and the folders that they start from.

Rules: the same work every time, so that a point of it can be named by a number: results are made from names, groups are
bounded in number and never in time, batches are small so that little data takes every path. A verb is done on a fresh
copy of a prepared folder; after each commit of its cache the caller is told, and from then on the commit must never be
lost.

>>> [job.name for job in JOBS]
['create', 'import', 'import in spills', 'invalidate', 'invalidate derived', 'forget derived', 'run', 'recover']
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import artdag_fed.caches.disk as disk
from artdag_fed import (
    Dag,
    DiskCache,
    Federation,
    Node,
    Record,
    export,
    forget,
    grouping,
    import_,
    invalidate,
    node,
    run,
)
from artdag_fed.cache import Changes, Outcome
from artdag_fed.caches import disk_staging
from artdag_fed.names import Cid, PeerId

__all__ = ["JOBS", "Job", "follow_up", "opened", "perform", "prepare", "small_steps"]

ROWS_A_BATCH = 4
RESULTS_A_GROUP = 3
NEVER = 1e6  # seconds
TRUSTED = {"alice", "bob", "carol", "zoe"}.__contains__


@dataclass(frozen=True)
class Job:
    """A verb to interrupt. `opening`: whether it is opening the cache that is interrupted, too; `start`: which folder
    it starts from ("none", "full", or "crashed": one whose last writer was killed in its commit)."""

    name: str
    verb: Callable[[Federation], object]
    start: str = "full"
    opening: bool = False
    spill_bytes: int | None = None


# --- results and records ----------------------------------------------------------------------


def small(name: str) -> dict[str, Any]:
    return {"name": name, "bytes": hashlib.sha256(name.encode()).digest()}


def large(name: str) -> bytes:
    """A result that lies beside the index as a file."""
    return hashlib.shake_128(name.encode()).digest(disk_staging.INLINE_BYTES + 777)


def record(cid: Cid, peer: PeerId, result: Any = None, lineage: tuple[PeerId, ...] = ()) -> Record:
    """What `peer` offers for `cid`; a cid that ends in "L" has a large result."""
    if result is None:
        result = large(cid) if cid.endswith("L") else small(cid)
    return Record(cid, result, peer, frozenset(lineage))


def load(number: int) -> Node:
    return node("load@1", n=number, big=number % 3 == 0)


def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
    name = f"{op}({[hashlib.sha256(repr(i).encode()).hexdigest() for i in inputs]}, {sorted(params.items())})"
    return large(name) if params.get("big") else small(name)


# --- where it starts from ---------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """A cache with results of several peers, some built on others', some withdrawn and not yet removed."""
    fed = Federation(DiskCache(folder))
    loads = run(Federation(), Dag(*(load(n) for n in range(6))), runner).federation
    inputs = [*export(loads, "alice", [load(n).cid for n in range(4)]), *export(loads, "dave", [load(4).cid])]
    alices = [record(cid, "alice") for cid in ("a0", "a1", "a2", "a3", "a4", "a5", "a0L")]
    alices.append(record("a1L", "alice", large("shared")))
    bobs = [record(cid, "bob") for cid in ("b0", "b1", "b0L")]
    bobs += [record(cid, "bob", lineage=("alice",)) for cid in ("ba0", "ba1", "ba0L")]
    carols = [record(cid, "carol") for cid in ("c0", "c1", "c2", "c3", "c4", "c5", "c0L", "c1L", "c2L")]
    fed = import_(fed, [*inputs, *alices, *bobs, *carols], lambda peer: True)
    run(fed, Dag(node("keep@1", load(0)), node("keep@1", load(1), big=True), node("keep@1", load(5))), runner)
    fed.cache["own0"], fed.cache["own1"] = small("own0"), small("own1")
    fed.cache["own0L"], fed.cache["own1L"] = large("own0L"), large("shared")
    opened(fed).commit(Changes(withdraw=lambda origin: origin.peer == "carol"))  # and no purge
    opened(fed).close()


def opened(fed: Federation) -> DiskCache:
    assert isinstance(fed.cache, DiskCache)
    return fed.cache


# --- the verbs --------------------------------------------------------------------------------


def _nothing(fed: Federation) -> None:
    """Opening was all."""


def _import(fed: Federation) -> None:
    """New and known ones, duplicates and conflicts, withdrawn ones again with the same bytes and with others."""
    bundle = [
        *(record(cid, "alice") for cid in ("n0", "n1", "n2", "n3", "n4", "n0L", "n1L", "n2L")),
        *(record(cid, "alice", lineage=("erin",)) for cid in ("ne0", "ne1", "ne0L")),
        record("n3L", "alice", large("own0L")),  # a file that is there, for a result of our own
        record("n4L", "bob", large("c2L")),  # a file that is about to go with a withdrawn result
        *(record(cid, "carol") for cid in ("c0", "c1", "c0L")),
        record("c2", "carol", small("changed")),
        record("c1L", "bob", large("changed")),
        record("n0", "alice"),
        record("n1", "bob", small("changed")),
        record("n1L", "bob", large("n1L changed")),
        record("own0", "alice", small("changed")),
        record("own0L", "alice", large("changed")),
        record("b0", "alice", small("changed")),
        record("b1", "bob"),
        record("m0", "mallory"),
    ]
    import_(fed, bundle, TRUSTED)


def _invalidate(fed: Federation) -> None:
    invalidate(fed, "alice")


def _invalidate_derived(fed: Federation) -> None:
    invalidate(fed, "alice", derived=True)


def _forget(fed: Federation) -> None:
    forget(fed, ["own0", "own0L", "a1L", load(0).cid], derived=True)


def _run(fed: Federation) -> None:
    """Inputs of a peer, one of a peer that is no longer trusted, one that was computed here; some results large."""
    pairs = [node("pair@1", load(n), load(n + 1), big=n % 2 == 0) for n in range(5)]
    steps = [node("step@1", pair) for pair in pairs]
    run(fed, Dag(node("join@1", *steps, big=True), load(0)), runner, trusted=TRUSTED)


def _recover(fed: Federation) -> None:
    """What the crashed process left is rolled back and swept, and that may be interrupted as well."""
    import_(fed, [record("r0", "bob"), record("r0L", "bob")], TRUSTED)


def follow_up(fed: Federation) -> Federation:
    """What anyone may do after a crash: it finds what the crashed process left behind. Two new results."""
    return import_(fed, [record("z0", "zoe"), record("z0L", "zoe")], TRUSTED)


JOBS = (
    Job("create", _nothing, start="none", opening=True),
    Job("import", _import),
    Job("import in spills", _import, spill_bytes=2000),
    Job("invalidate", _invalidate),
    Job("invalidate derived", _invalidate_derived),
    Job("forget derived", _forget),
    Job("run", _run),
    Job("recover", _recover, start="crashed", opening=True),
)


# --- doing one --------------------------------------------------------------------------------


@contextlib.contextmanager
def small_steps(job: Job) -> Iterator[None]:
    """Bounds so small that a few results make several groups and batches, and none that depends on time."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(grouping, "GROUP_RESULTS", RESULTS_A_GROUP))
        stack.enter_context(mock.patch.object(grouping, "GROUP_SECONDS", NEVER))
        stack.enter_context(mock.patch.object(disk, "BATCH", ROWS_A_BATCH))
        if job.spill_bytes is not None:
            stack.enter_context(mock.patch.object(disk_staging, "SPILL_BYTES", job.spill_bytes))
        yield


def perform(
    job: Job,
    folder: Path,
    committed: Callable[[], None],
    *,
    kind: type[DiskCache] = DiskCache,
    ready: Callable[[DiskCache | None], None] = lambda cache: None,
) -> None:
    """Open the cache in `folder` and do the verb. `committed` is called when a commit has returned; `ready` with the
    open cache before the verb begins, and with None before it is opened where opening is interrupted, too."""
    with small_steps(job):
        if job.opening:
            ready(None)
        cache = kind(folder)
        commit = cache.commit

        def telling(changes: Changes) -> Outcome:
            outcome = commit(changes)
            committed()
            return outcome

        cache.commit = telling  # type: ignore[method-assign]  # this one object reports what it has promised
        ready(cache)
        job.verb(Federation(cache))
        cache.close()
