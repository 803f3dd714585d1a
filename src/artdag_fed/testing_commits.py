"""What a cache promises of its commits, as code: the part of `testing.check_cache` about `stage` and `commit`.

Rules: each check is given a cache and names that nothing in it has yet, and raises an `AssertionError` that says what
was expected and what was found; it asks through `OriginCache` alone, and leaves what others stored alone.

>>> from artdag_fed import MemoryCache
>>> decides_by_the_table(Place(MemoryCache()))
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any

from artdag_fed.cache import Changes, Clash, Entry, Held, Origin, OriginCache, Outcome
from artdag_fed.names import Cid, PeerId

__all__ = ["COMMIT_CHECKS", "MANY", "Place", "raises", "same"]

MANY = 2500  # results: more than any batch that a cache is likely to work in


class Place:
    """A cache, and names that nothing in it has yet."""

    def __init__(self, cache: OriginCache) -> None:
        self.cache = cache
        taken = {*cache, *(peer for origin in cache.origins() for peer in origin.peers)}
        self.prefix = next(p for p in map("check{}.".format, count()) if not any(n.startswith(p) for n in taken))
        self.alice, self.bob, self.carol = (self.prefix + name for name in ("alice", "bob", "carol"))

    def cid(self, name: object) -> Cid:
        return f"{self.prefix}{name}"

    def entry(self, name: object, value: Any, peer: PeerId | None = None, *lineage: PeerId, **more: Any) -> Entry:
        payload = self.cache.codec.encode(value)
        digest, encodes = hashlib.sha256(payload).hexdigest(), self.cache.encodes
        kept = (payload, None, False) if encodes else (None, value, True)
        return Entry(self.cid(name), Origin(peer, frozenset(lineage)), digest, *kept, **more)

    def put(self, *entries: Entry) -> Outcome:
        return self.cache.commit(Changes(put=self.cache.stage(entries)))

    def withdraw(self, peer: PeerId) -> Outcome:
        return self.cache.commit(Changes(withdraw=lambda origin: origin.peer == peer))

    def load(self, cids: Iterable[Cid]) -> dict[Cid, Any]:
        """The results alone."""
        return {cid: value for cid, (_, value) in self.cache.load(cids).items()}

    def ours(self) -> set[Cid]:
        return {cid for cid in self.cache if cid.startswith(self.prefix)}

    def held(self, name: object) -> Held:
        held = self.cache.held([self.cid(name)])
        same(f"the cids that held([{name!r}]) answers with", list(held), [self.cid(name)])
        return held[self.cid(name)]


def same(what: str, found: object, expected: object) -> None:
    """`AssertionError` where what was found is not what was expected; no `assert`, which `python -O` leaves out."""
    if found != expected:
        raise AssertionError(f"{what}: expected {_brief(expected)}, found {_brief(found)}")


def raises(kind: type[BaseException], what: str, do: Callable[..., object], *arguments: object) -> None:
    """`AssertionError` where `do(*arguments)` does not raise a `kind`."""
    try:
        result = do(*arguments)
    except kind:
        return
    raise AssertionError(f"{what}: expected {kind.__name__}, found {_brief(result)}")


def _brief(value: object) -> str:
    """Its repr, with long runs of one character cut: results are large here, and the end is what differs."""
    return re.sub(r"(.|\\\\x..)\1{20,}", r"\1\1\1...", repr(value))


# --- staging and committing -------------------------------------------------------------------


def shows_nothing_that_is_only_staged(place: Place) -> None:
    cache = place.cache
    entries = [place.entry("small", 1, place.alice), place.entry("large", b"l" * 100_000, place.alice)]
    staged = cache.stage(iter(entries))
    thrown_away = cache.stage(place.entry(i, i, place.alice) for i in range(MANY))
    same("what can be read of what is staged", (place.ours(), cache.held([place.cid("small")])), (set(), {}))
    for _ in range(2):
        thrown_away.close()
    same("Outcome.stored", dict(cache.commit(Changes(put=staged)).stored), {Origin(place.alice): 2})
    staged.close()  # nothing, after a commit
    same("what was committed", place.ours(), {place.cid("small"), place.cid("large")})
    again = cache.commit(Changes(put=cache.stage(entries)))
    same(
        "the same again: stored, unchanged, clashes", (dict(again.stored), again.unchanged, again.clashes), ({}, 2, ())
    )
    same("a commit of nothing", cache.commit(Changes()), Outcome())
    same("a commit of no entries", place.put(), Outcome())


def changes_all_or_nothing(place: Place) -> None:
    cache = place.cache
    place.put(place.entry("a", 1, place.alice), place.entry("l", 1))
    before = place.held("a"), place.held("l")

    def broken() -> Iterator[Entry]:
        for i in range(MANY):
            yield place.entry(i, b"x" * (40_000 if i < 10 else 1), place.bob)
        raise RuntimeError("the bundle broke")

    def fails(origin: Origin) -> bool:
        if origin.peer == place.alice:
            raise RuntimeError("the predicate broke")
        return False

    raises(RuntimeError, "staging what breaks", cache.stage, broken())
    changes = Changes(withdraw=fails, drop=frozenset([place.cid("l")]), put=cache.stage([place.entry("n", 1)]))
    raises(RuntimeError, "a commit whose predicate breaks", cache.commit, changes)
    other: Any = _Foreign()
    raises(TypeError, "a commit of what another cache staged", cache.commit, Changes(put=other))
    same("what is held after all that", place.ours(), {place.cid("a"), place.cid("l")})
    same("how it is held", (place.held("a"), place.held("l")), before)

    together = Changes(
        withdraw=lambda origin: origin.peer == place.alice,
        drop=frozenset([place.cid("l"), place.cid("absent")]),
        put=cache.stage([place.entry("a", 2, place.alice), place.entry("l", 2, place.bob)]),
    )
    done = cache.commit(together)
    same("withdrawn and dropped", (done.withdrawn, done.dropped), (1, 1))
    same("clashes with what went in the same commit", done.clashes, ())
    same("what was stored in the same commit", place.load([place.cid("a")]), {place.cid("a"): 2})
    same("and in place of what was dropped", place.held("l").origin, Origin(place.bob))
    if place.held("a").token == before[0].token:
        raise AssertionError("an origin that was withdrawn is live again: its token has to be another one")


class _Foreign:
    def close(self) -> None:
        """Nothing: it is never committed."""


# held, arriving, whether it may replace a local one, whether the digests are equal; which one stands then
_TABLE = (
    ("nothing", "bob", False, True, "bob"),
    ("nothing", "local", False, True, "local"),
    ("withdrawn", "bob", False, False, "bob"),
    ("withdrawn", "local", False, False, "local"),
    ("alice", "bob", False, True, "alice"),
    ("alice", "bob", False, False, "alice"),
    ("alice", "bob", True, False, "alice"),  # nothing foreign replaces anything
    ("alice", "alice resting on bob", False, True, "alice"),
    ("local", "bob", False, True, "local"),
    ("local", "bob", False, False, "local"),
    ("local", "bob", True, False, "local"),
    ("alice", "local", False, True, "local"),
    ("alice", "local", False, False, "local"),
    ("alice", "local", True, False, "local"),
    ("local", "local resting on bob", False, True, "local"),
    ("local", "local resting on bob", False, False, "local"),
    ("local", "local resting on bob", True, True, "local resting on bob"),
    ("local", "local resting on bob", True, False, "local resting on bob"),
)


def decides_by_the_table(place: Place) -> None:
    rests = {place.bob}
    origins = {
        "nothing": Origin(None),
        "withdrawn": Origin(place.carol),
        "alice": Origin(place.alice),
        "alice resting on bob": Origin(place.alice, frozenset(rests)),
        "bob": Origin(place.bob),
        "local": Origin(None),
        "local resting on bob": Origin(None, frozenset(rests)),
    }
    for i, (held, arriving, replace, equal, stands) in enumerate(_TABLE):
        row = f"held {held}, arriving {arriving}{', replacing' * replace}, {'same' if equal else 'other'} digest"
        values = ("held", "held" if equal else "other")
        if i % 3 == 0:  # large ones lie elsewhere, perhaps
            values = (values[0] * 20_000, values[1] * 20_000)
        was, comes = origins[held], origins[arriving]
        first = place.entry(i, values[0], was.peer, *was.lineage)
        second = place.entry(i, values[1], comes.peer, *comes.lineage, replace=replace)
        if held != "nothing":
            place.put(first)
        if held == "withdrawn":
            place.withdraw(place.carol)
        done = place.put(second)

        stored = stands == arriving
        empty = held in ("nothing", "withdrawn")
        clash = Clash(first.cid, was, first.digest, comes, second.digest, replaced=stored)
        same(f"{row}: stored", dict(done.stored), {comes: 1} if stored else {})
        same(f"{row}: unchanged", done.unchanged, int(not stored and equal))
        same(f"{row}: clashes", done.clashes, () if empty or equal else (clash,))
        entry = second if stored else first
        found = place.held(i)
        same(f"{row}: what stands", (found.origin, found.digest), (origins[stands], entry.digest))
        same(f"{row}: its value", place.cache[entry.cid], values[int(stored)])
    same("an object without bytes", place.cache.encodes or _identity_decides(place), True)


def _identity_decides(place: Place) -> bool:
    """Where a value has no bytes, it is equal to itself alone."""
    thing = object()
    first = Entry(place.cid("thing"), Origin(place.alice), "", None, thing, True)
    place.put(first)
    unchanged = place.put(first._replace(origin=Origin(place.bob)))
    clashing = place.put(first._replace(value=object()))
    return unchanged.unchanged == 1 and [c.held_digest for c in clashing.clashes] == [""]


def keeps_the_first_of_several(place: Place) -> None:
    first = place.entry("c", 1, place.bob)
    rest = [place.entry("c", 2, place.alice), place.entry("c", 1, place.alice), place.entry("c", 3, replace=True)]
    done = place.put(place.entry("b", 1), first, *rest, place.entry("d", 1))
    clashes = [Clash(first.cid, first.origin, first.digest, e.origin, e.digest, False) for e in (rest[0], rest[2])]
    same("stored, of several for one cid", dict(done.stored), {Origin(None): 2, first.origin: 1})
    same("unchanged, of several for one cid", done.unchanged, 1)
    same("clashes, of several for one cid", sorted(map(repr, done.clashes)), sorted(map(repr, clashes)))
    same("what stands", (place.held("c").origin, place.cache[first.cid]), (first.origin, 1))


def lets_the_first_that_may_replace_what_is_held(place: Place) -> None:
    """Several for one cid that is held: those before the one that replaces it meet it, those behind meet that one."""
    held = {"local": place.entry("x", "held"), "foreign": place.entry("x", "held", place.alice)}
    before, behind = place.entry("x", "before", place.bob), place.entry("x", "behind", place.bob)
    more = [place.entry("x", "held", place.carol), place.entry("x", "other", replace=True)]
    for i, was in enumerate(held.values()):
        for j, text in enumerate(("new", "held", "new" * 20_000)):
            new = place.entry("x", text, None, place.carol, replace=was.origin.local)
            same_as_new = place.entry("x", text, place.bob)
            arriving = [before, more[0], new, same_as_new, behind, more[1]]
            named = [entry._replace(cid=place.cid(f"several{i}{j}")) for entry in (was, *arriving)]
            cid = named[0].cid
            place.put(named[0])
            done = place.put(*named[1:])
            what = f"held {was.origin}, arriving several, of which {text[:4]!r} replaces it"
            clashes = [Clash(cid, was.origin, was.digest, before.origin, before.digest, False)]
            if text != "held":
                clashes.append(Clash(cid, was.origin, was.digest, new.origin, new.digest, True))
            clashes += [Clash(cid, new.origin, new.digest, e.origin, e.digest, False) for e in (behind, more[1])]
            same(f"{what}: stored", dict(done.stored), {new.origin: 1})
            same(f"{what}: unchanged", done.unchanged, 2)
            same(f"{what}: clashes", sorted(map(repr, done.clashes)), sorted(map(repr, clashes)))
            found = place.cache.held([cid])[cid]
            same(f"{what}: what stands", (found.origin, place.cache[cid]), (new.origin, text))
            offers = {(o.peer, o.lineage, o.digest) for o in place.cache.offers([cid])}
            same(f"{what}: offers", offers, {(e.origin.peer, e.origin.lineage, e.digest) for e in named})


def withdraws_at_once_and_for_good(place: Place) -> None:
    cache, alice, bob = place.cache, place.alice, place.bob
    direct = [place.entry(f"a{i}", b"a" * (50_000 if i < 3 else i), alice) for i in range(20)]
    derived = [place.entry("d", 1, None, alice), place.entry("r", 2, bob, alice)]
    others = [place.entry("b", 3, bob), place.entry("l", 4)]
    place.put(*direct, *derived, *others)
    token = place.held("a0").token

    done = place.withdraw(alice)
    same("how many were withdrawn", done.withdrawn, len(direct))
    gone = [entry.cid for entry in direct]
    same("what was withdrawn, in held and load", (cache.held(gone), place.load(gone)), ({}, {}))
    same("what was withdrawn, in stored", [cache.stored(cid) for cid in gone], [None] * len(gone))
    same("what was withdrawn, as a mapping", [cid for cid in gone if cid in cache], [])
    same("what is left", place.ours(), {entry.cid for entry in derived + others})
    same("peers in provenance", {p for c, p in cache.provenance.items() if c.startswith(place.prefix)}, {bob})
    same("a withdrawn origin in origins()", Origin(alice) in cache.origins(), False)
    same("withdrawing again", place.withdraw(alice).withdrawn, 0)

    done = cache.commit(Changes(withdraw=lambda origin: alice in origin.lineage))
    same("how many derived ones were withdrawn", done.withdrawn, len(derived))
    same("what is left then", place.ours(), {entry.cid for entry in others})

    same("stored anew", dict(place.put(direct[0], direct[-1]).stored), {Origin(alice): 2})
    same("what is read anew", cache[direct[0].cid], b"a" * 50_000)
    if place.held("a0").token == token:
        raise AssertionError("an origin that was withdrawn is live again: its token has to be another one")
    same("what was not stored anew", cache.held(gone[1:-1]), {})
    same("how many are withdrawn then", place.withdraw(alice).withdrawn, 2)


def drops_by_name(place: Place) -> None:
    cache = place.cache
    entries = [place.entry("l", 1), place.entry("a", b"a" * 50_000, place.alice), place.entry("s", 2, place.alice)]
    place.put(*entries)
    token = place.held("a").token
    going = frozenset([entries[0].cid, entries[1].cid, place.cid("absent")])
    same("how many were dropped", cache.commit(Changes(drop=going)).dropped, 2)
    same("what is left", place.ours(), {entries[2].cid})
    same("what was dropped, in load", place.load(going), {})
    same("the count of its origin", cache.origins()[Origin(place.alice)].results, 1)
    same("dropping again", cache.commit(Changes(drop=going)).dropped, 0)
    place.put(entries[1])
    same("the token of what was dropped, not withdrawn", place.held("a").token, token)
    same("what was stored anew", cache[entries[1].cid], b"a" * 50_000)


def does_not_keep_what_became_stale(place: Place) -> None:
    cache = place.cache
    place.put(place.entry("a", 1, place.alice), place.entry("b", 2, place.bob))
    alice, bob = (frozenset([place.held(name).token]) for name in "ab")
    made = [
        place.entry("from a", b"x" * 50_000, None, place.alice, basis=alice),
        place.entry("from both", 2, None, place.alice, place.bob, basis=alice | bob),
        place.entry("from b", 3, None, place.bob, basis=bob),
        place.entry("from none", 4),
    ]
    made = [entry._replace(cid=entry.cid.replace(" ", "-")) for entry in made]
    staged = cache.stage(made)
    place.withdraw(place.alice)
    place.put(place.entry("a", 1, place.alice))  # of that peer again, and yet not what was read
    done = cache.commit(Changes(put=staged))
    same("what was not stored", done.stale, {made[0].cid, made[1].cid})
    same("what was stored", sorted(done.stored.values()), [1, 1])
    same("what can be read", place.load([e.cid for e in made]), {made[2].cid: 3, made[3].cid: 4})

    late = place.entry("late", 5, None, place.bob, basis=bob)
    changes = Changes(withdraw=lambda origin: origin.peer == place.bob, put=cache.stage([late]))
    same("what went stale in the commit that withdraws", cache.commit(changes).stale, {late.cid})
    same("whether it is held", late.cid in cache, False)


COMMIT_CHECKS: tuple[Callable[[Place], None], ...] = (
    shows_nothing_that_is_only_staged,
    changes_all_or_nothing,
    decides_by_the_table,
    keeps_the_first_of_several,
    lets_the_first_that_may_replace_what_is_held,
    withdraws_at_once_and_for_good,
    drops_by_name,
    does_not_keep_what_became_stale,
)
