"""A cache in memory, over any mapping: results stay the objects that they are.

Rules: the mapping that is wrapped holds the results, this object holds their origins; a key of the mapping that has no
origin here is not held. Results that are there when the mapping is wrapped were computed here, on the caller's word,
unless `provenance` says otherwise. A mapping that raises while it is written has what was written so far taken out
again. What is in memory is not durable and not shared with other processes.

>>> cache = MemoryCache({"c1": 1})
>>> cache["c1"], len(cache), "c2" in cache
(1, 1, False)
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from operator import attrgetter
from threading import RLock
from typing import Any

from artdag_fed.cache import Changes, Entry, Held, Made, Offer, Origin, Outcome, Recall, Relabel, Staged, Stored, Total
from artdag_fed.caches.memory_offers import Offers
from artdag_fed.caches.memory_table import Mark, Verdicts, measure, measured, totals_of
from artdag_fed.claims import Claims
from artdag_fed.codec import DEFAULT, Codec
from artdag_fed.dag import recipe_prefix
from artdag_fed.events import Event
from artdag_fed.names import Cid, PeerId, check_cid, check_peer

__all__ = ["MemoryCache"]

_MISSING: Any = object()
_NONE: Mapping[Any, Any] = {}


class MemoryCache(MutableMapping[Cid, Any]):
    """An `OriginCache` over `mapping` (None: a new dict), with `codec` to tell results apart.

    provenance, lineage: where results that are in the mapping came from, as a `Federation` over it had them. Raises
    `TypeError` where the mapping is none that can be written, `InvalidName` for a key that is no cid.
    """

    encodes = False

    def __init__(
        self,
        mapping: MutableMapping[Cid, Any] | None = None,
        codec: Codec | None = None,
        *,
        provenance: Mapping[Cid, PeerId] = _NONE,
        lineage: Mapping[Cid, frozenset[PeerId]] = _NONE,
    ) -> None:
        if mapping is None:
            mapping = {}
        for method in ("__getitem__", "__setitem__", "__delitem__", "__iter__", "__contains__", "keys"):
            if not hasattr(type(mapping), method):
                raise TypeError(f"a cache is a mapping that can be written; {type(mapping).__name__} has no {method}")
        self._mapping = mapping
        self._codec = DEFAULT if codec is None else codec
        self._lock = RLock()
        self.claims = Claims()
        self._next = itertools.count(1)
        self._live: dict[int, Origin] = {}  # by token; a token that is not here was withdrawn
        self._tokens: dict[Origin, int] = {}  # the same, the other way round
        self._marks: dict[Cid, Mark] = {}  # in the order in which they were stored; none of a withdrawn origin
        self._totals: dict[int, Total] = {}  # by token, of those that are marked
        self._offers = Offers()
        for cid in mapping:
            check_cid(cid)
            peer = provenance.get(cid)
            origin = Origin(peer if peer is None else check_peer(peer), frozenset(lineage.get(cid, ())))
            for other in origin.lineage:
                check_peer(other)
            self._marks[cid] = Mark(self._token(origin), None, b"", "")
        self._totals = totals_of({}, self._marks.values())

    # --- looking ----------------------------------------------------------------------------

    @property
    def codec(self) -> Codec:
        return self._codec

    @property
    def provenance(self) -> dict[Cid, PeerId]:
        return self._of_each(attrgetter("peer"))

    @property
    def lineage(self) -> dict[Cid, frozenset[PeerId]]:
        return self._of_each(attrgetter("lineage"))

    def _of_each(self, of: Callable[[Origin], Any]) -> dict[Cid, Any]:
        """What the origins of the results have, where they have something. Every verb asks this."""
        with self._lock:
            by_token = {token: found for token, origin in self._live.items() if (found := of(origin))}
            if not by_token:
                return {}
            return {cid: by_token[mark.token] for cid, mark in self._marks.items() if mark.token in by_token}

    def origins(self) -> dict[Origin, Total]:
        with self._lock:
            totals = self._totals
            if not self._whole():
                totals = totals_of({}, (mark for cid in self._marks if (mark := self._mark(cid)) is not None))
            return {self._live[token]: total for token, total in totals.items()}

    def _whole(self) -> bool:
        """Whether the mapping has as many results as are marked: else it let some go by itself, as a bounded one does,
        and there is no way to know but to look at each."""
        try:
            return len(self._mapping) == len(self._marks)
        except TypeError:  # nobody asked it to have a length
            return False

    def held(self, cids: Iterable[Cid]) -> dict[Cid, Held]:
        with self._lock:
            return {
                cid: Held(self._live[mark.token], mark.token, mark.digest or "", mark.source)
                for cid in cids
                if (mark := self._mark(cid)) is not None
            }

    def load(self, cids: Iterable[Cid], observe: Callable[[Event], None] | None = None) -> dict[Cid, tuple[Held, Any]]:
        with self._lock:
            found = {cid: (held, self._peek(cid)) for cid, held in self.held(cids).items()}
        return {cid: (held, result) for cid, (held, result) in found.items() if result is not _MISSING}

    def stored(self, cid: Cid) -> Stored | None:
        with self._lock:
            mark = self._mark(cid)
            result = _MISSING if mark is None else self._peek(cid)
            if mark is None or result is _MISSING:
                return None
            mark = self._measured(cid, mark)
            return Stored(self._live[mark.token], mark.digest or "", None, result, mark.recipe)

    def recipes(self, op: str | None = None) -> Iterator[tuple[Cid, bytes]]:
        prefix = b"" if op is None else recipe_prefix(op)
        with self._lock:
            found = [(cid, m.recipe) for cid, m in self._marks.items() if m.recipe and self._mark(cid) is not None]
        return ((cid, recipe) for cid, recipe in found if recipe.startswith(prefix))

    def made(self, cids: Iterable[Cid]) -> dict[Cid, Made]:
        with self._lock:
            measured = {cid: self._measured(cid, mark) for cid in cids if (mark := self._mark(cid)) is not None}
            return {
                cid: Made(
                    origin=self._live[m.token],
                    digest=m.digest or "",
                    recipe=m.recipe,
                    inputs_digest=m.inputs_digest,
                    token=m.token,
                    size=m.size,
                    seconds=m.seconds,
                    signature=m.signature,
                )
                for cid, m in measured.items()
            }

    def inventory(self) -> Iterator[tuple[Cid, Made]]:
        with self._lock:
            cids = list(self._marks)
        for cid in cids:  # one by one: others may want the cache while a large result is encoded
            yield from self.made([cid]).items()

    def offers(self, cids: Iterable[Cid] | None = None) -> Iterator[Offer]:
        with self._lock:
            return iter(self._offers.about(cids))

    def _mark(self, cid: object) -> Mark | None:
        """What is kept beside a result that is held; the mapping may have let it go by itself (a bounded one does)."""
        mark = self._marks.get(cid)  # type: ignore[call-overload]  # any object may be asked for
        return mark if mark is not None and mark.token in self._live and cid in self._mapping else None

    def _measured(self, cid: Cid, mark: Mark) -> Mark:
        """The mark with digest and size, which are worked out and kept."""
        if mark.digest is None or (mark.digest and not mark.size):
            digest, size = measure(self._codec, self._mapping[cid])
            self._totals[mark.token] = self._totals[mark.token].plus(0, size - mark.size, 0)
            mark = self._marks[cid] = mark._replace(digest=digest, size=size)
        return mark

    def _entry(self, cid: Cid, with_digest: bool) -> Entry | None:
        """What is held as it would arrive, its digest and size worked out if asked."""
        mark = self._mark(cid)
        if mark is None:
            return None
        if with_digest:
            mark = self._measured(cid, mark)
        entry = Entry(cid, self._live[mark.token], mark.digest or "", None, self._mapping[cid], True)
        return entry._replace(signature=mark.signature, size=mark.size)

    # --- changing ---------------------------------------------------------------------------

    def stage(self, entries: Iterable[Entry]) -> Staged:
        return _Laid(list(entries))

    def commit(self, changes: Changes) -> Outcome:
        if not (changes.put is None or isinstance(changes.put, _Laid)):
            raise TypeError(f"put must be what this cache's stage gave, not {type(changes.put).__name__}")
        with self._lock:
            # Decide everything first, on what will be left; nothing is changed while callables are asked.
            dead = set()
            if changes.withdraw is not None:
                dead = {token for token, origin in self._live.items() if changes.withdraw(origin)}
            going = {cid for cid, mark in self._marks.items() if mark.token in dead} if dead else set()
            withdrawn = sum(1 for cid in going if self._mark(cid) is not None)
            dropped = self._dropped(changes, dead, going)
            going |= dropped
            recalled = self._recalled(changes.recall, going)
            going |= recalled
            laid = [] if changes.put is None else changes.put.entries

            def look(cid: Cid, with_digest: bool) -> Entry | None:
                return None if cid in going else self._entry(cid, with_digest)

            verdicts = Verdicts(self._codec, self._live.keys() - dead, look, changes.at)
            for entry in laid:
                verdicts.add(entry)
            relabel = self._relabelled(changes.relabel, dead, going, verdicts.storing)

            # Then results, which may raise and are taken out again; then the marks, which make them readable.
            self._write({cid: entry.value for cid, entry in verdicts.storing.items()})
            self._live = {token: origin for token, origin in self._live.items() if token not in dead}
            self._tokens = {origin: token for token, origin in self._live.items()}
            new, origin, token = dict[Cid, Mark](), None, 0
            for cid, e in verdicts.storing.items():
                if e.origin is not origin:  # many come in runs: to hash one for each costs more than all the rest here
                    origin, token = e.origin, self._token(e.origin)
                digest = e.digest or None
                new[cid] = Mark(token, digest, e.recipe, e.inputs_digest, e.source, e.seconds, e.signature, e.size)
            gone = [mark for cid in {*going, *new} if (mark := self._marks.pop(cid, None)) is not None]
            self._marks.update(new)
            moved = {cid: self._marks[cid] for cid in relabel}
            relabelled = {cid: self._moved(mark, relabel[cid]) for cid, mark in moved.items()}
            self._marks.update(relabelled)
            added = (*new.values(), *relabelled.values())
            self._totals = totals_of(self._totals, added, (*gone, *moved.values()))
            for cid in going - new.keys():  # unreadable already: a mapping that fails here keeps only waste
                self._discard(cid)
            for offer, arrived in verdicts.offers:
                self._offers.add(offer, arrived=arrived)
            self._offers.bound()
            self._offers.settle(changes.settle - verdicts.stale)
            if changes.put is not None:
                changes.put.close()
            return Outcome(
                stored={self._live[token]: n for token, n in Counter(mark.token for mark in new.values()).items()},
                unchanged=verdicts.unchanged,
                clashes=tuple(verdicts.clashes),
                stale=frozenset(verdicts.stale),
                withdrawn=withdrawn,
                dropped=len(dropped),
                recalled=len(recalled),
                relabelled=len(relabel),
            )

    def _dropped(self, changes: Changes, dead: set[int], going: set[Cid]) -> set[Cid]:
        dropped = {cid for cid in changes.drop if cid not in going and self._mark(cid) is not None}
        live = self._live.keys() - dead
        for cid, (token, digest, basis) in changes.drop_if.items():
            mark = None if cid in going else self._mark(cid)
            same = mark is not None and mark.token == token and self._measured(cid, mark).digest == digest
            if same and basis <= live:
                dropped.add(cid)
        return dropped

    def _recalled(self, recall: Recall | None, going: set[Cid]) -> set[Cid]:
        if recall is None:
            return set()
        tokens = {token for token, origin in self._live.items() if origin.peer == recall.peer}
        theirs = [cid for cid, mark in self._marks.items() if mark.token in tokens and cid not in going]
        return {cid for cid in theirs if cid not in recall.offered and self._mark(cid) is not None}

    def _relabelled(
        self, relabel: Mapping[Cid, Relabel], dead: set[int], going: set[Cid], storing: Mapping[Cid, Entry]
    ) -> dict[Cid, Relabel]:
        """Those whose conditions hold when the rest is done."""
        live = self._live.keys() - dead
        chosen = {}
        for cid, new in relabel.items():
            token, digest, _, basis, _ = new
            mark = None if cid in going else self._mark(cid)
            if cid in storing:
                entry = storing[cid]
                same = token == self._tokens.get(entry.origin) and digest == measured(self._codec, entry).digest
            else:
                same = mark is not None and token == mark.token and digest == self._measured(cid, mark).digest
            if same and token in live and basis <= live:
                chosen[cid] = new
        return chosen

    def _moved(self, mark: Mark, new: Relabel) -> Mark:
        token = self._token(new.origin)
        signature = mark.signature if token == mark.token else b""
        return mark._replace(token=token, inputs_digest=new.inputs_digest or mark.inputs_digest, signature=signature)

    def purge(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing: there is nothing to let go of."""

    def _token(self, origin: Origin) -> int:
        token = self._tokens.get(origin)
        if token is None:
            token = next(self._next)
            self._live[token] = origin
            self._tokens[origin] = token
        return token

    def _peek(self, cid: Cid) -> Any:
        try:
            return self._mapping[cid]
        except KeyError:
            return _MISSING

    def _discard(self, cid: Cid) -> None:
        with contextlib.suppress(KeyError):
            del self._mapping[cid]

    def _write(self, results: dict[Cid, Any]) -> None:
        before: dict[Cid, Any] = {}
        try:
            for cid, result in results.items():
                before[cid] = self._peek(cid)
                self._mapping[cid] = result
        except BaseException:
            for cid, result in before.items():
                if result is _MISSING:
                    self._discard(cid)
                else:
                    self._mapping[cid] = result
            raise

    # --- a mapping --------------------------------------------------------------------------

    def __getitem__(self, cid: Cid) -> Any:
        with self._lock:
            if self._mark(cid) is None:
                raise KeyError(cid)
            return self._mapping[cid]

    def __setitem__(self, cid: Cid, result: Any) -> None:
        entry = Entry(check_cid(cid), Origin(None), "", None, result, True, replace=True)
        self.commit(Changes(put=_Laid([entry]), at=time.time()))

    def __delitem__(self, cid: Cid) -> None:
        if not self.commit(Changes(drop=frozenset([cid]))).dropped:
            raise KeyError(cid)

    def __contains__(self, cid: object) -> bool:
        with self._lock:
            return self._mark(cid) is not None

    def __iter__(self) -> Iterator[Cid]:
        with self._lock:
            return iter([cid for cid in self._marks if self._mark(cid) is not None])

    def __len__(self) -> int:
        with self._lock:
            return len(self._marks) if self._whole() else sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MemoryCache) and bool(self._mapping == other._mapping)

    __hash__ = None  # type: ignore[assignment]  # equal by content, which changes

    def __repr__(self) -> str:
        return f"<MemoryCache of {len(self)} results>"


class _Laid:
    """Entries laid ready: a list."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries

    def close(self) -> None:
        self.entries = []
