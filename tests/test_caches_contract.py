"""Every cache keeps the contract of `testing.check_cache`; and that contract finds what is broken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import artdag_fed
from artdag_fed import DiskCache, MemoryCache, Record, import_, invalidate
from artdag_fed.cache import Changes, Entry, Origin, OriginCache
from artdag_fed.federation import Federation
from artdag_fed.testing import check_cache
from tests.shelf import Shelf

Make = Callable[[], OriginCache]


def filled(cache: Any) -> Any:
    """The cache with results of every kind, some of them withdrawn, and all sizes."""
    fed = Federation(cache)
    fed.cache["mine"], fed.cache["mine.large"] = {"a": [1, None]}, b"m" * 70_000
    records = [Record(f"{peer}{i}", "x" * 10 ** (i % 6), peer, {"zoe"} - {peer}) for peer in "pqr" for i in range(20)]
    import_(fed, records, set("pqr").__contains__)
    invalidate(fed, "q")
    return cache


CACHES: dict[str, Callable[[Path], OriginCache]] = {
    "over a dict": lambda path: MemoryCache({}),
    "over no mapping": lambda path: MemoryCache(),
    "over a mapping of one's own": lambda path: MemoryCache(Shelf()),
    "on disk": lambda path: DiskCache(path / "cache"),
}
every_cache = pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES.keys())


def fresh(cache: Callable[[Path], OriginCache], path: Path) -> Make:
    """A place of its own for each call."""
    numbers = iter(range(1000))

    def make() -> OriginCache:
        place = path / str(next(numbers))
        place.mkdir()
        return cache(place)

    return make


@every_cache
def test_a_cache_that_starts_empty_keeps_the_contract(cache: Callable[[Path], OriginCache], tmp_path: Path) -> None:
    check_cache(fresh(cache, tmp_path))


@every_cache
def test_a_cache_that_holds_something_keeps_the_contract_and_what_it_holds(
    cache: Callable[[Path], OriginCache], tmp_path: Path
) -> None:
    make = fresh(cache, tmp_path)
    check_cache(lambda: filled(make()))


def test_one_durable_place_keeps_the_contract_when_it_is_opened_again_and_again(tmp_path: Path) -> None:
    filled(DiskCache(tmp_path / "cache")).close()
    check_cache(lambda: DiskCache(tmp_path / "cache"))
    cache = DiskCache(tmp_path / "cache")
    assert cache["mine.large"] == b"m" * 70_000 and cache.provenance["p3"] == "p" and "q3" not in cache
    cache.close()


# --- the contract can be broken ----------------------------------------------------------------


class Forgets(MemoryCache):
    def __getitem__(self, cid):
        return super().__getitem__(cid) or None


class SaysNothingOfWhatIsMissing(MemoryCache):
    def __delitem__(self, cid):
        self.commit(Changes(drop=frozenset([cid])))


class TakesAnyName(MemoryCache):
    def __setitem__(self, cid, result):
        entry = Entry(cid, Origin(None), "", None, result, True, replace=True)
        self.commit(Changes(put=self.stage([entry])))


class LosesLineage(MemoryCache):
    def stage(self, entries):
        return super().stage([e._replace(origin=Origin(e.origin.peer)) for e in entries])


class ShowsWhatIsStaged(MemoryCache):
    def stage(self, entries):
        laid = super().stage(entries)
        self.commit(Changes(put=laid))
        return laid


class CommitsByHalves(MemoryCache):
    def commit(self, changes):
        if changes.drop and changes.put is not None:
            super().commit(Changes(drop=changes.drop))
        return super().commit(changes)


class LetsThePeersWin(MemoryCache):
    def commit(self, changes):
        if changes.put is not None:
            super().commit(Changes(drop=frozenset(e.cid for e in changes.put.entries if not e.origin.local)))
        return super().commit(changes)


class NeverReplaces(MemoryCache):
    def stage(self, entries):
        return super().stage([e._replace(replace=False) for e in entries])


class KeepsTheLast(MemoryCache):
    def stage(self, entries):
        return super().stage(list({e.cid: e for e in entries}.values()))


class LooksAtTheFirstAlone(MemoryCache):
    def stage(self, entries):
        return super().stage(list({e.cid: e for e in reversed(list(entries))}.values()))


class RevivesTokens(MemoryCache):
    def _token(self, origin):
        token = self._tokens[origin] = sum(map(ord, repr(sorted(origin.peers)))) + 1000 * origin.local
        self._live[token] = origin
        return token


class KeepsWhatIsStale(MemoryCache):
    def stage(self, entries):
        return super().stage([e._replace(basis=frozenset()) for e in entries])


class HidesInsteadOfWithdrawing(MemoryCache):
    def commit(self, changes):
        outcome = super().commit(changes)
        self.gone = getattr(self, "gone", set()) | ({1} if changes.withdraw else set())
        return outcome

    def stored(self, cid):
        return None if self.gone else super().stored(cid)


class NeverDoneWithPurging(MemoryCache):
    def purge(self):
        return True


class IteratesOverItsMapping(MemoryCache):
    def __iter__(self):
        return iter(self._mapping)


class ForgetsWhatConfirmedOnesWereMadeFrom(MemoryCache):
    def commit(self, changes):
        plain = {cid: new._replace(inputs_digest="") for cid, new in changes.relabel.items()}
        return super().commit(replace(changes, relabel=plain))


class CountsWrong(MemoryCache):
    def origins(self):
        return {origin: total._replace(results=total.results + 1) for origin, total in super().origins().items()}


class CountsNoTime(MemoryCache):
    def origins(self):
        return {origin: total._replace(seconds=0.0) for origin, total in super().origins().items()}


class ListsTheNewestFirst(MemoryCache):
    def inventory(self):
        return reversed(list(super().inventory()))


class ChangesTheChanges(MemoryCache):
    """One that does something else than it was asked to."""

    def commit(self, changes):
        return super().commit(replace(changes, **self.instead(changes)))


class DropsWhatHasChanged(ChangesTheChanges):
    def instead(self, changes):
        return {"drop": changes.drop | changes.drop_if.keys(), "drop_if": {}}


class DropsWhateverItsOrigin(ChangesTheChanges):
    def instead(self, changes):
        held = self.held(changes.drop_if)
        wanted = {cid: drop for cid, drop in changes.drop_if.items() if cid in held}
        return {"drop_if": {cid: drop._replace(token=held[cid].token) for cid, drop in wanted.items()}}


class DropsWhateverWasWithdrawn(ChangesTheChanges):
    def instead(self, changes):
        return {"drop_if": {cid: drop._replace(basis=frozenset()) for cid, drop in changes.drop_if.items()}}


class SettlesWhatIsStale(MemoryCache):
    def commit(self, changes):
        outcome = super().commit(changes)
        super().commit(Changes(settle=changes.settle))
        return outcome


class RecallsNothing(ChangesTheChanges):
    def instead(self, changes):
        return {"recall": None}


class RecallsWhatOthersOffer(ChangesTheChanges):
    def instead(self, changes):
        if changes.recall is None:
            return {}
        return {"drop": frozenset(cid for cid in self.provenance if cid not in changes.recall.offered)}


class RecallsWhatIsBuiltOnIt(ChangesTheChanges):
    def instead(self, changes):
        if changes.recall is None:
            return {}
        return {"drop": frozenset(cid for cid, peers in self.lineage.items() if changes.recall.peer in peers)}


class RelabelsWithoutLooking(ChangesTheChanges):
    what = "digest"

    def instead(self, changes):
        held, made = self.held(changes.relabel), self.made(changes.relabel)
        now = {cid: {"digest": made[cid].digest, "token": held[cid].token, "basis": frozenset()} for cid in held}
        return {
            "relabel": {
                cid: new._replace(**{self.what: now[cid][self.what]}) if cid in now else new
                for cid, new in changes.relabel.items()
            }
        }


class RelabelsAnotherLife(RelabelsWithoutLooking):
    what = "token"


class RelabelsWhatRestsOnWithdrawn(RelabelsWithoutLooking):
    what = "basis"


class SettlesNothing(ChangesTheChanges):
    def instead(self, changes):
        return {"settle": frozenset()}


class DoesNotSayWhen(ChangesTheChanges):
    def instead(self, changes):
        return {"at": 0.0}


class KeepsConflictsAlone(MemoryCache):
    def offers(self, cids=None):
        found = list(super().offers(cids))
        return (o for o in found if len({other.digest for other in found if other.cid == o.cid}) > 1)


class KeepsWhatArrivedAlone(MemoryCache):
    def offers(self, cids=None):
        held = self.held(o.cid for o in super().offers(cids))
        return (o for o in super().offers(cids) if o.cid not in held or held[o.cid].origin.peer != o.peer)


class ShowsNoSignatures(MemoryCache):
    def made(self, cids):
        return {cid: made._replace(signature=b"") for cid, made in super().made(cids).items()}


class LosesSignatures(MemoryCache):
    def stage(self, entries):
        return super().stage([e._replace(signature=b"") for e in entries])


BROKEN = [
    CountsNoTime,
    ListsTheNewestFirst,
    DropsWhatHasChanged,
    DropsWhateverItsOrigin,
    DropsWhateverWasWithdrawn,
    SettlesWhatIsStale,
    RecallsNothing,
    RecallsWhatOthersOffer,
    RecallsWhatIsBuiltOnIt,
    RelabelsWithoutLooking,
    RelabelsAnotherLife,
    RelabelsWhatRestsOnWithdrawn,
    SettlesNothing,
    DoesNotSayWhen,
    KeepsConflictsAlone,
    KeepsWhatArrivedAlone,
    LosesSignatures,
    ShowsNoSignatures,
    Forgets,
    SaysNothingOfWhatIsMissing,
    TakesAnyName,
    LosesLineage,
    ShowsWhatIsStaged,
    CommitsByHalves,
    LetsThePeersWin,
    NeverReplaces,
    KeepsTheLast,
    LooksAtTheFirstAlone,
    RevivesTokens,
    KeepsWhatIsStale,
    HidesInsteadOfWithdrawing,
    NeverDoneWithPurging,
    IteratesOverItsMapping,
    CountsWrong,
    ForgetsWhatConfirmedOnesWereMadeFrom,
]


@pytest.mark.parametrize("broken", BROKEN)
def test_the_contract_finds_a_cache_that_is_broken(broken: type[MemoryCache]) -> None:
    # The mapping's own words where it is iterated while it changes, and our own for all else.
    expected = RuntimeError if broken is IteratesOverItsMapping else AssertionError
    with pytest.raises(expected, match=" ") as caught:
        check_cache(broken)
    assert len(str(caught.value)) > 20


def test_the_contract_finds_a_cache_that_is_none() -> None:
    with pytest.raises(AssertionError, match="dict lacks a method of OriginCache"):
        check_cache(dict)  # type: ignore[arg-type]  # wrong on purpose


def test_the_contract_is_checked_without_assertions_too() -> None:
    said = subprocess.run(
        [sys.executable, "-O", "-c", "from artdag_fed.testing import check_cache; check_cache(dict)"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(artdag_fed.__file__).parent.parent)},
    )
    assert said.returncode == 1 and "AssertionError: dict lacks a method" in said.stderr
