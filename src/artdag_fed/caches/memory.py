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
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from threading import RLock
from typing import Any, NamedTuple

from artdag_fed.cache import Changes, Clash, Entry, Held, Made, Origin, Outcome, Staged, Stored
from artdag_fed.claims import Claims
from artdag_fed.codec import DEFAULT, Codec
from artdag_fed.dag import recipe_prefix
from artdag_fed.errors import CodecError
from artdag_fed.events import Event
from artdag_fed.names import Cid, PeerId, check_cid, check_peer

__all__ = ["MemoryCache"]

_MISSING: Any = object()
_NONE: Mapping[Any, Any] = {}


class _Mark(NamedTuple):
    """What is kept beside a result. `digest` is None until someone asks, and "" where the codec cannot carry it."""

    token: int
    digest: str | None
    recipe: bytes
    inputs_digest: str
    source: str = ""


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
        self._marks: dict[Cid, _Mark] = {}
        for cid in mapping:
            check_cid(cid)
            peer = provenance.get(cid)
            origin = Origin(peer if peer is None else check_peer(peer), frozenset(lineage.get(cid, ())))
            for other in origin.lineage:
                check_peer(other)
            self._marks[cid] = _Mark(self._token(origin), None, b"", "")

    # --- looking ----------------------------------------------------------------------------

    @property
    def codec(self) -> Codec:
        return self._codec

    @property
    def provenance(self) -> dict[Cid, PeerId]:
        return {cid: o.peer for cid, o in self._origin_by_cid() if o.peer is not None}

    @property
    def lineage(self) -> dict[Cid, frozenset[PeerId]]:
        return {cid: o.lineage for cid, o in self._origin_by_cid() if o.lineage}

    def _origin_by_cid(self) -> list[tuple[Cid, Origin]]:
        with self._lock:
            live = self._live
            return [(cid, live[mark.token]) for cid, mark in self._marks.items() if mark.token in live]

    def origins(self) -> dict[Origin, int]:
        return dict(Counter(origin for _, origin in self._origin_by_cid()))

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
            return Stored(self._live[mark.token], self._digest(cid, mark), None, result, mark.recipe)

    def recipes(self, op: str | None = None) -> Iterator[tuple[Cid, bytes]]:
        prefix = b"" if op is None else recipe_prefix(op)
        with self._lock:
            found = [(cid, m.recipe) for cid, m in self._marks.items() if m.recipe and self._mark(cid) is not None]
        return ((cid, recipe) for cid, recipe in found if recipe.startswith(prefix))

    def made(self, cids: Iterable[Cid]) -> dict[Cid, Made]:
        with self._lock:
            return {
                cid: Made(self._live[mark.token], self._digest(cid, mark), mark.recipe, mark.inputs_digest)
                for cid in cids
                if (mark := self._mark(cid)) is not None
            }

    def _mark(self, cid: object) -> _Mark | None:
        """What is kept beside a result that is held; the mapping may have let it go by itself (a bounded one does)."""
        mark = self._marks.get(cid)  # type: ignore[call-overload]  # any object may be asked for
        return mark if mark is not None and mark.token in self._live and cid in self._mapping else None

    def _digest(self, cid: Cid, mark: _Mark) -> str:
        if mark.digest is None:
            mark = self._marks[cid] = mark._replace(digest=_digest_of(self._codec, self._mapping[cid]))
        assert mark.digest is not None
        return mark.digest

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
            going = {cid for cid, mark in self._marks.items() if mark.token in dead and self._mark(cid) is not None}
            withdrawn = len(going)
            dropped = {cid for cid in changes.drop if cid not in going and self._mark(cid) is not None}
            going |= dropped
            laid = [] if changes.put is None else changes.put.entries
            verdicts = _Verdicts(self, dead, going)
            for entry in laid:
                verdicts.add(entry)

            # Then results, which may raise and are taken out again; then the marks, which make them readable.
            self._write({cid: entry.value for cid, entry in verdicts.storing.items()})
            self._live = {token: origin for token, origin in self._live.items() if token not in dead}
            self._tokens = {origin: token for token, origin in self._live.items()}
            new = {
                cid: _Mark(self._token(e.origin), e.digest or None, e.recipe, e.inputs_digest, e.source)
                for cid, e in verdicts.storing.items()
            }
            if going:
                self._marks = {cid: mark for cid, mark in self._marks.items() if cid not in going} | new
            else:
                self._marks.update(new)
            for cid in going - new.keys():  # unreadable already: a mapping that fails here keeps only waste
                self._discard(cid)
            if changes.put is not None:
                changes.put.close()
            return Outcome(
                stored=dict(Counter(entry.origin for entry in verdicts.storing.values())),
                unchanged=verdicts.unchanged,
                clashes=tuple(verdicts.clashes),
                stale=frozenset(verdicts.stale),
                withdrawn=withdrawn,
                dropped=len(dropped),
            )

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
        self.commit(Changes(put=_Laid([entry])))

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
        return sum(1 for _ in self)

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


class _Verdicts:
    """The held/arriving table, over the entries of one commit in their order."""

    def __init__(self, cache: MemoryCache, dead: set[int], going: set[Cid]) -> None:
        self._cache = cache
        self._dead = dead
        self._going = going
        self.storing: dict[Cid, Entry] = {}
        self.unchanged = 0
        self.clashes: list[Clash] = []
        self.stale: set[Cid] = set()

    def add(self, entry: Entry) -> None:
        cache, cid = self._cache, entry.cid
        if any(token in self._dead or token not in cache._live for token in entry.basis):
            self.stale.add(cid)
            return
        mark = None if cid in self._going else cache._mark(cid)
        first = self.storing.get(cid)
        if first is not None:  # of several for one cid in one commit, the first stays
            held, digest, value = first.origin, first.digest, first.value
        elif mark is not None:
            held, digest, value = cache._live[mark.token], mark.digest or "", cache._mapping[cid]
        else:
            self.storing[cid] = entry
            return
        replaced = first is None and entry.origin.local and (entry.replace or not held.local)
        if value is not entry.value:
            digest = digest or _digest_of(cache._codec, value)
            offered = entry.digest or _digest_of(cache._codec, entry.value)
            if digest != offered or not digest:
                self.clashes.append(Clash(cid, held, digest, entry.origin, offered, replaced))
                if replaced:
                    self.storing[cid] = entry
                return
        if replaced:
            self.storing[cid] = entry
        else:
            self.unchanged += 1


def _digest_of(codec: Codec, result: Any) -> str:
    try:
        return hashlib.sha256(codec.encode(result)).hexdigest()
    except CodecError:
        return ""
