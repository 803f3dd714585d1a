"""What can be wrong with an instance, each patched into the real code while a test looks: the driver has to find it.

Rules: each is one mistake that someone could make in `src`, as small as it can be, and nothing of it stays when the
`with` ends. On a disk are those that need rows that are held beside rows that are not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Final
from unittest import mock

from artdag_fed import MemoryCache, Record, TransportError, challenging, federation, importing, instance, pruning
from artdag_fed.admission import Gate
from artdag_fed.cache import Changes, Entry, Origin, OriginCache
from artdag_fed.caches import disk, disk_commit, disk_origins
from artdag_fed.caches.evidence import lineage_text
from artdag_fed.caches.memory_offers import Offers
from artdag_fed.caches.memory_table import Verdicts
from artdag_fed.execute import Work
from tests.crash.two_step import TwoStepCache

__all__ = ["FAULTS", "ON_DISK"]

Fault = Callable[[], AbstractContextManager[Any]]


def origin_dropped_on_import() -> AbstractContextManager[Any]:
    judge = Gate.judge

    def judged(self: Gate, record: Record) -> Any:
        verdict = judge(self, record)
        return verdict._replace(origin=Origin(None)) if isinstance(verdict, Entry) else verdict

    return mock.patch.object(Gate, "judge", judged)


def lineage_not_unioned() -> AbstractContextManager[Any]:
    """A result rests on its first input alone."""
    base_of = Work.base_of
    return mock.patch.object(Work, "base_of", lambda self, inputs: base_of(self, inputs[:1]))


def lineage_not_exported() -> AbstractContextManager[Any]:
    class Alone:
        def __new__(cls, cid: str, result: Any, peer: str, lineage: Any, *rest: Any, **more: Any) -> Any:
            return Record(cid, result, peer, frozenset(), *rest, **more)

        @staticmethod
        def encoded(cid: str, payload: bytes, digest: str, peer: str, lineage: Any, *rest: Any, **more: Any) -> Record:
            return Record.encoded(cid, payload, digest, peer, frozenset(), *rest, **more)

    return mock.patch.object(federation, "Record", Alone)


def derived_stops_after_one_hop() -> AbstractContextManager[Any]:
    """Only what came from the peer goes, and what was made here from it alone."""

    def changes(**given: Any) -> Changes:
        which = given.get("withdraw")
        if which is not None:
            given["withdraw"] = lambda origin: which(origin) and len(origin.peers) == 1
        return Changes(**given)

    return mock.patch.object(federation, "Changes", changes)


def withdrawn_origin_revived() -> AbstractContextManager[Any]:
    """One that comes again gets the token that it had: what was made from the withdrawn one counts."""
    token_of = MemoryCache._token

    def token(self: Any, origin: Origin) -> int:
        token = token_of(self, origin)
        first = vars(self).setdefault("_ever", {}).setdefault(origin, token)
        if first != token:
            del self._live[token]
            self._live[first] = origin
            self._tokens[origin] = first
        return int(first)

    return mock.patch.object(MemoryCache, "_token", token)


def withdrawn_origin_revived_on_disk() -> AbstractContextManager[Any]:
    """Likewise, with the rows that are not purged yet."""
    live_id = disk_origins.live_id

    def revived(db: sqlite3.Connection, origin: Origin) -> int:
        row = origin.peer, lineage_text(origin.lineage)
        db.execute("UPDATE origin SET live = 1 WHERE peer IS ? AND lineage = ?", row)
        return live_id(db, origin)

    return mock.patch.object(disk_commit, "live_id", revived)


def local_overwritten_by_import() -> AbstractContextManager[Any]:
    add = Verdicts.add

    def added(self: Verdicts, entry: Entry) -> None:
        add(self, entry)
        held = self._look(entry.cid, False)
        if held is not None and held.origin.local and not entry.origin.local:
            self.storing[entry.cid] = entry

    return mock.patch.object(Verdicts, "add", added)


def conflict_unreported() -> AbstractContextManager[Any]:
    add = Verdicts.add

    def added(self: Verdicts, entry: Entry) -> None:
        add(self, entry)
        self.clashes.clear()

    return mock.patch.object(Verdicts, "add", added)


def conflict_not_kept() -> AbstractContextManager[Any]:
    return mock.patch.object(Offers, "add", lambda self, offer, *, arrived: None)


def purge_of_a_live_row() -> AbstractContextManager[Any]:
    """Where there is nothing to purge, the oldest goes."""
    purge = MemoryCache.purge

    def purged(self: Any) -> bool:
        for cid in list(self)[:1]:
            del self[cid]
        return purge(self)

    return mock.patch.object(MemoryCache, "purge", purged)


def purge_of_a_live_row_on_disk() -> AbstractContextManager[Any]:
    """With a withdrawn row the one behind it goes, too."""
    drop = disk_origins.drop

    def dropped(db: sqlite3.Connection, ids: Iterable[int]) -> int:
        return drop(db, [id + more for id in ids for more in (0, 1)])

    return mock.patch.object(disk, "drop", dropped)


def committed_in_two_steps() -> AbstractContextManager[Any]:
    """Results first, and then where they came from: only a kill in between shows it."""
    return mock.patch.object(instance, "DiskCache", TwoStepCache)


def recall_on_a_cut_answer() -> AbstractContextManager[Any]:
    """What came before the cut counts as all that is offered."""
    real = importing._import

    def imported(
        cache: OriginCache, gate: Gate, records: Any, observe: Any, asked: str = "", recall: Any = None
    ) -> Any:
        try:
            return real(cache, gate, records, observe, asked, recall)
        except TransportError:
            cache.commit(Changes(recall=recall))
            raise

    return mock.patch.object(importing, "_import", imported)


def vindication_without_the_input_check() -> AbstractContextManager[Any]:
    """What was made here is held to be made from what stands now, whatever that is."""
    judge = challenging.Work._judge

    def judged(self: Any, cid: str, inputs: tuple[str, ...]) -> None:
        made, stand = self._standing.made.get(cid), self._standing.inputs_digest(inputs)
        said = made.inputs_digest if made is not None and made.inputs_digest and stand else stand
        with mock.patch.object(self._standing, "inputs_digest", lambda _: said):
            judge(self, cid, inputs)

    return mock.patch.object(challenging.Work, "_judge", judged)


def what_rests_on_a_refuted_result_stays() -> AbstractContextManager[Any]:
    judge = challenging.Work._judge

    def judged(self: Any, cid: str, inputs: tuple[str, ...]) -> None:
        judge(self, cid, inputs)
        self.found.dropped.pop(cid, None)

    return mock.patch.object(challenging.Work, "_judge", judged)


def prune_of_a_kept_result() -> AbstractContextManager[Any]:
    return mock.patch.object(pruning, "_with_inputs", lambda cache, named: set())


def prune_of_what_a_kept_one_was_built_on() -> AbstractContextManager[Any]:
    return mock.patch.object(pruning, "_with_inputs", lambda cache, named: set(named))


FAULTS: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        "origin dropped on import": origin_dropped_on_import,
        "lineage not unioned": lineage_not_unioned,
        "lineage not exported": lineage_not_exported,
        "derived stops after one hop": derived_stops_after_one_hop,
        "withdrawn origin revived": withdrawn_origin_revived,
        "local overwritten by import": local_overwritten_by_import,
        "conflict unreported": conflict_unreported,
        "conflict not kept": conflict_not_kept,
        "recall on a cut answer": recall_on_a_cut_answer,
        "vindication without the input check": vindication_without_the_input_check,
        "what rests on a refuted result stays": what_rests_on_a_refuted_result_stays,
        "purge of a live row": purge_of_a_live_row,
        "prune of a kept result": prune_of_a_kept_result,
        "prune of what a kept one was built on": prune_of_what_a_kept_one_was_built_on,
    }
)
ON_DISK: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        "withdrawn origin revived": withdrawn_origin_revived_on_disk,
        "purge of a live row": purge_of_a_live_row_on_disk,
        "committed in two steps": committed_in_two_steps,
    }
)
