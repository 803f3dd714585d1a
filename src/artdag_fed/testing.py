"""The contracts of a cache and of a `Fetch` as code: run them over ones of your own. `FakePeer` is who they talk to.

Rules: needs no test framework, and works under `python -O`: what does not hold is an `AssertionError` that says what
was expected and what was found. A cache that holds something already is checked as well; what it holds has to be
untouched at the end. Everything is asked through `cache.OriginCache`, so a cache that passes is one that the verbs work
with.

>>> from artdag_fed import MemoryCache
>>> check_cache(lambda: MemoryCache({"c1": "was there before"}))
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from artdag_fed.cache import Changes, Made, Origin, OriginCache, Stored, Total
from artdag_fed.dag import node
from artdag_fed.errors import CodecError, InvalidName
from artdag_fed.names import Cid
from artdag_fed.testing_changes import CHANGE_CHECKS
from artdag_fed.testing_commits import COMMIT_CHECKS, MANY, Place, raises, same
from artdag_fed.testing_peers import FakePeer, check_fetch

__all__ = ["FakePeer", "check_cache", "check_fetch"]

ROUNDS = 10_000  # of purging: a cache that is never done with it is broken
VALUES: tuple[Any, ...] = (
    None,
    False,
    0,
    -(2**70),
    0.5,
    "",
    "text",
    b"",
    b"\0" * 100_000,
    [],
    {"deep": [1, (2, b"3")]},
)


def check_cache(make: Callable[[], OriginCache]) -> None:
    """Check that what `make()` gives keeps the contract of `OriginCache`; `AssertionError` where it does not.

    make: called once per part of the contract. Gives a new cache, or opens another one over the same durable place:
    what is held there is left alone, and what the check itself stored stays behind. Each is closed afterwards.
    """
    looking = (keeps_results_like_a_mapping, refuses_what_is_no_cid, tells_what_is_held_and_whence)
    using = (purges_only_what_nobody_can_read, can_be_changed_while_it_is_iterated, serves_several_threads)
    for check in (*looking, *COMMIT_CHECKS, *CHANGE_CHECKS, *using):
        cache = make()
        if not isinstance(cache, OriginCache):
            raise AssertionError(f"{type(cache).__name__} lacks a method of OriginCache")
        try:
            before = _everything(cache)
            check(Place(cache))
            after = _everything(cache)
            for cid, was in before.items():
                same(f"what {cid} was before {check.__name__}", after.get(cid), was)
            same(f"len(cache) after {check.__name__}", len(cache), len(after))
            same(f"origins() after {check.__name__}, to what can be counted", *_totals(cache, after))
        finally:
            cache.close()


def _everything(cache: OriginCache) -> dict[Cid, tuple[int, Stored]]:
    """What is held, with the tokens of its origins."""
    held = cache.held(list(cache))
    found = {cid: (held[cid].token, cache.stored(cid)) for cid in held}
    return {cid: (token, stored) for cid, (token, stored) in found.items() if stored is not None}


def _totals(cache: OriginCache, held: dict[Cid, tuple[int, Stored]]) -> tuple[dict[Origin, Total], dict[Origin, Total]]:
    """What `origins()` says, and what it should: seconds are rounded, as their sum depends on the order."""
    counted: dict[Origin, Total] = {}
    inventory = dict(cache.inventory())
    same("what the inventory has", sorted(inventory), sorted(held))
    for cid, (_, stored) in held.items():
        made = inventory[cid]
        same(f"the origin and digest of {cid} in the inventory", made[:2], (stored.origin, stored.digest))
        if stored.payload is not None:
            same(f"the size of {cid}", made.size, len(stored.payload))
        counted[stored.origin] = counted.get(stored.origin, Total()).plus(1, made.size, made.seconds)
    told = cache.origins()
    for totals in (told, counted):
        totals.update({origin: total._replace(seconds=round(total.seconds, 6)) for origin, total in totals.items()})
    return told, counted


# --- a mapping --------------------------------------------------------------------------------


def keeps_results_like_a_mapping(place: Place) -> None:
    cache, before = place.cache, len(place.cache)
    for i, value in enumerate(VALUES):
        cid = place.cid(i)
        same("a cid that is not held, in the cache", cid in cache, False)
        cache[cid] = value
        same("a cid that is held, in the cache", cid in cache, True)
        found = cache[cid]
        same(f"the type and value of result {i}", (type(found), found), (type(value), value))
        same("the origin of what was put with cache[cid]", place.held(i).origin, Origin(None))
    same("what is iterated", sorted(place.ours()), sorted(place.cid(i) for i in range(len(VALUES))))
    same("how often each is iterated", max(Counter(iter(cache)).values()), 1)
    same("len(cache)", len(cache), before + len(VALUES))

    place.put(place.entry("f", "foreign", place.alice, place.bob))
    cache[place.cid("f")] = "mine"
    same(
        "a foreign result that was overwritten", (cache[place.cid("f")], place.held("f").origin), ("mine", Origin(None))
    )
    cache[place.cid("f")] = "mine again"
    same("a local result that was overwritten", cache[place.cid("f")], "mine again")
    del cache[place.cid("f")]
    raises(KeyError, "reading what was deleted", cache.__getitem__, place.cid("f"))
    raises(KeyError, "deleting what is not held", cache.__delitem__, place.cid("f"))
    same("len(cache) afterwards", len(cache), before + len(VALUES))


def refuses_what_is_no_cid(place: Place) -> None:
    cache, before = place.cache, len(place.cache)
    for bad in ("", "no good", "-first", "x" * 129, "line\n", "\ud800", "é"):
        raises(InvalidName, f"cache[{bad!a}] = ...", cache.__setitem__, bad, 1)
        raises(KeyError, f"cache[{bad!a}]", cache.__getitem__, bad)
        raises(KeyError, f"del cache[{bad!a}]", cache.__delitem__, bad)
        same(f"{bad!a} in the cache", bad in cache, False)
    raises(TypeError, "cache[5] = ...", cache.__setitem__, 5, 1)
    raises(KeyError, "cache[5]", cache.__getitem__, 5)
    raises(KeyError, "del cache[5]", cache.__delitem__, 5)
    same("5 in the cache", 5 in cache, False)
    thing = object()
    if cache.encodes:
        raises(CodecError, "storing what has no bytes", cache.__setitem__, place.cid("thing"), thing)
    else:
        cache[place.cid("thing")] = thing
        same("an object that was put", cache[place.cid("thing")] is thing, True)
        del cache[place.cid("thing")]
    same("len(cache) after refusals", len(cache), before)


# --- looking ----------------------------------------------------------------------------------


def tells_what_is_held_and_whence(place: Place) -> None:
    cache, alice, bob, carol = place.cache, place.alice, place.bob, place.carol
    op = place.prefix + "op"
    first, second = (node(name, i=i).recipe for i, name in enumerate((op, op + "2")))
    entries = {
        "l": place.entry("l", 1, inputs_digest="0" * 64, recipe=first, source="5" * 64, seconds=1.5),
        "d": place.entry("d", None, None, alice, bob),
        "a": place.entry("a", "x" * 100_000, alice, recipe=second),
        "b": place.entry("b", [2], bob, alice, carol, signature=b"bobs"),
    }
    outcome = place.put(*entries.values())
    same("Outcome.stored", dict(outcome.stored), {entry.origin: 1 for entry in entries.values()})
    cids, absent = [entry.cid for entry in entries.values()], place.cid("absent")

    held = cache.held([*cids, absent, *cids])
    same("the cids of held(...)", sorted(held), sorted(cids))
    values = {"l": 1, "d": None, "a": "x" * 100_000, "b": [2]}
    loaded = cache.load([absent, *cids])
    same(
        "load(...)",
        {cid: result for cid, (_, result) in loaded.items()},
        {place.cid(name): value for name, value in values.items()},
    )
    same(
        "whence load(...) says that they are",
        [(h.origin, h.token) for h, _ in map(loaded.__getitem__, cids)],
        [(h.origin, h.token) for h in map(held.__getitem__, cids)],
    )
    for name, entry in entries.items():
        found = held[entry.cid]
        same(f"the origin and digest of {name}", (found.origin, found.digest), (entry.origin, entry.digest))
        same(
            f"the source of {name}, from held and load",
            (found.source, loaded[entry.cid][0].source),
            (entry.source,) * 2,
        )
        size = len(cache.codec.encode(values[name]))
        how = (found.token, size, entry.seconds, entry.signature)
        made = Made(entry.origin, entry.digest, entry.recipe, entry.inputs_digest, *how)
        same(f"made([{name!r}])", cache.made([absent, entry.cid]), {entry.cid: made})
        stored = cache.stored(entry.cid)
        expected = (entry.origin, entry.digest, entry.payload, entry.value, entry.recipe)
        same(f"stored({name!r})", stored and tuple(stored), expected)
    same("held([]) and load([])", (cache.held([]), cache.load([])), ({}, {}))
    same("what is not held", (cache.held([absent]), cache.load([absent]), cache.stored(absent)), ({}, {}, None))
    same("how many tokens there are", len({h.token for h in held.values()}), 4)

    mine = {origin: t for origin, t in cache.origins().items() if origin in {e.origin for e in entries.values()}}
    mine.pop(Origin(None))  # others may have results of that origin here
    sizes = {name: len(cache.codec.encode(value)) for name, value in values.items()}
    same("origins()", mine, {entries[name].origin: Total(1, sizes[name], 0.0) for name in "dab"})
    for what, view, shown in (
        ("provenance", cache.provenance, {"a": alice, "b": bob}),
        ("lineage", cache.lineage, {"d": frozenset({alice, bob}), "b": frozenset({alice, carol})}),
    ):
        found_shown = {cid: value for cid, value in view.items() if cid.startswith(place.prefix)}
        same(what, found_shown, {place.cid(name): value for name, value in shown.items()})
        same(f"{what} of a result that has none", view.get(place.cid("l"), "none"), "none")
        same(f"len({what})", len(view), len(list(view)))
    recipes = [(cid, recipe) for cid, recipe in cache.recipes() if cid.startswith(place.prefix)]
    same("recipes()", sorted(recipes), sorted([(place.cid("l"), first), (place.cid("a"), second)]))
    same("recipes(op)", list(cache.recipes(op)), [(place.cid("l"), first)])


# --- being used -------------------------------------------------------------------------------


def purges_only_what_nobody_can_read(place: Place) -> None:
    cache = place.cache
    place.put(*(place.entry(i, b"x" * (50_000 if i < 5 else 1), place.alice) for i in range(MANY)))
    stays = [place.entry("b", b"x" * 50_000, place.bob), place.entry("l", 1)]  # the first has a file that others shared
    place.put(*stays)
    place.withdraw(place.alice)
    for _ in range(ROUNDS):
        if not cache.purge():
            break
        same("what can be read while it is purged", place.ours(), {entry.cid for entry in stays})
    else:
        raise AssertionError(f"purge() says after {ROUNDS:,} rounds that there is more")
    same(
        "what can be read afterwards", place.load(e.cid for e in stays), {stays[0].cid: b"x" * 50_000, stays[1].cid: 1}
    )
    same("stored again", dict(place.put(place.entry(0, b"x" * 50_000, place.alice)).stored), {Origin(place.alice): 1})
    same("read again", cache[place.cid(0)], b"x" * 50_000)
    same("whether there is more to purge", cache.purge(), False)


def can_be_changed_while_it_is_iterated(place: Place) -> None:
    cache = place.cache
    names = [f"{i:04}" for i in range(MANY)]
    place.put(*(place.entry(name, 1, place.alice) for name in names))
    seen = []
    for cid in cache:
        if cid.startswith(place.prefix):
            seen.append(cid)
        if len(seen) == MANY // 2 and cid == seen[-1]:
            place.put(*(place.entry(name, 2) for name in names))  # replaces all, those that were given already too
            same("how many results there are", len(place.load(map(place.cid, names))), MANY)
    same("how often each that stayed was given", sorted(seen), sorted(map(place.cid, names)))

    going = frozenset(map(place.cid, names))
    seen = []
    for cid in cache:
        if cid in going:
            seen.append(cid)
            if len(seen) == 1:
                cache.commit(Changes(drop=going - {cid}))
    same("how often each was given while it was dropped", max(Counter(seen).values()), 1)
    same("what is left", place.ours(), {seen[0]})


def serves_several_threads(place: Place) -> None:
    cache, errors = place.cache, list[BaseException]()
    start = threading.Barrier(4)

    def work(me: int) -> None:
        peer = place.cid(f"peer{me}")
        try:
            start.wait()
            for i in range(5):
                mine, theirs = place.entry(f"l{me}.{i}", b"x" * (40_000 + i)), place.entry(f"f{me}.{i}", i, peer)
                place.put(mine, place.entry(f"shared{i}", i, peer))
                place.put(theirs)
                same(
                    "what a thread has stored",
                    place.load([mine.cid, theirs.cid]),
                    {mine.cid: b"x" * (40_000 + i), theirs.cid: i},
                )
                list(cache.provenance.items())
                place.withdraw(peer)
                same("what a thread has withdrawn", theirs.cid in cache, False)
                cache.purge()
        except BaseException as error:  # noqa: BLE001  # handed to the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise AssertionError(f"one of several threads failed: {error}") from error
    same("what is left", place.ours(), {place.cid(f"l{me}.{i}") for me in range(4) for i in range(5)})
