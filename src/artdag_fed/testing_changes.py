"""What a cache promises of taking back, relabelling and evidence, as code: a part of `testing.check_cache`.

Rules: as in `testing_commits`: each check is given a cache and names that nothing in it has yet, raises an
`AssertionError` that says what was expected and what was found, and leaves what others stored alone.

>>> from artdag_fed import MemoryCache
>>> keeps_the_same_offers_in_any_order(Place(MemoryCache()))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import permutations

from artdag_fed.cache import Changes, Drop, Entry, Offer, Origin, Recall, Relabel
from artdag_fed.names import Cid
from artdag_fed.testing_commits import MANY, Place, same

__all__ = ["CHANGE_CHECKS"]


# --- what goes, and what gets another origin --------------------------------------------------


def counts_what_results_come_to(place: Place) -> None:
    cache, alice = place.cache, place.alice
    entries = [place.entry(i, "x" * i * 9_000, alice, seconds=i / 4) for i in range(8)]
    place.put(*entries)
    made = cache.made(e.cid for e in entries)
    same("the seconds of what was stored", [made[e.cid].seconds for e in entries], [i / 4 for i in range(8)])
    sizes = [len(cache.codec.encode("x" * i * 9_000)) for i in range(8)]
    same("the sizes of what was stored", [made[e.cid].size for e in entries], sizes)
    same("what they come to", tuple(cache.origins()[Origin(alice)]), (8, sum(sizes), 7.0))
    cache.commit(Changes(drop=frozenset([entries[7].cid])))
    same("what they come to without one", tuple(cache.origins()[Origin(alice)]), (7, sum(sizes[:7]), 5.25))
    place.put(place.entry(6, 1, seconds=0.1))
    same("what they come to without a replaced one", tuple(cache.origins()[Origin(alice)]), (6, sum(sizes[:6]), 3.75))
    place.withdraw(alice)
    same("what is withdrawn, in origins()", Origin(alice) in cache.origins(), False)
    place.put(place.entry("new", 1, alice, seconds=0.2))
    same("what one comes to that is stored then", cache.origins()[Origin(alice)].seconds, 0.2)


def lists_the_oldest_first(place: Place) -> None:
    cache, names = place.cache, ["m", "z", "a", "l"]
    for i, name in enumerate(names):
        place.put(place.entry(name, i, None if name == "l" else place.alice, seconds=i))
    place.put(place.entry("z", "replaced"))
    place.put(*(place.entry(f"many{i}", i, place.bob) for i in range(MANY)))
    listed = []
    for cid, made in cache.inventory():
        if cid.startswith(place.prefix):
            listed.append((cid, made))
        if len(listed) == 1:  # nothing is held in between
            cache.commit(Changes(drop=frozenset([place.cid("many7")])))
    cids = [cid for cid, _ in listed]
    same("the order of the oldest", cids[:4], [place.cid(name) for name in "malz"])
    came = [place.cid(f"many{i}") for i in range(MANY) if i != 7]
    same("the order of one commit's, as they came", [cid for cid in cids[4:] if cid != place.cid("many7")], came)
    same("how many are listed", len(set(cids)), len(cids))
    same("what is listed", {*cids, place.cid("many7")}, {*place.ours(), place.cid("many7")})
    same("what is told of them", dict(listed[:4]), cache.made(cids[:4]))


def drops_only_what_is_as_it_was(place: Place) -> None:
    cache = place.cache
    entries = [place.entry("a", 1, place.alice), place.entry("l", b"l" * 50_000), place.entry("b", 2, place.bob)]
    place.put(*entries)
    alices, ours, digest = place.held("a").token, place.held("l").token, entries[1].digest
    wanted = {entries[0].cid: Drop(alices, entries[0].digest), place.cid("absent"): Drop(ours, "0" * 64)}
    wanted[entries[1].cid] = Drop(ours, "0" * 64)
    done = cache.commit(Changes(drop_if=wanted, drop=frozenset([entries[2].cid])))
    same("how many were dropped", done.dropped, 2)
    same("what is left of another digest", place.ours(), {entries[1].cid})
    wanted[entries[1].cid] = Drop(alices, digest)
    same("how many were dropped of another origin", cache.commit(Changes(drop_if=wanted)).dropped, 0)
    place.put(entries[2])
    bobs = frozenset([place.held("b").token])
    wanted[entries[1].cid] = Drop(ours, digest, bobs)
    done = cache.commit(Changes(drop_if=wanted, withdraw=lambda origin: origin.peer == place.bob))
    same("how many were dropped for the sake of what was withdrawn", (done.dropped, done.withdrawn), (0, 1))
    same("nor later", cache.commit(Changes(drop_if=wanted)).dropped, 0)
    place.put(place.entry("c", 3, place.carol))
    wanted[entries[1].cid] = Drop(ours, digest, frozenset([place.held("c").token]))
    both = Changes(drop_if=wanted, drop=frozenset([entries[1].cid]))
    same("how often one is counted that goes for two reasons", cache.commit(both).dropped, 1)


def recalls_what_a_peer_offers_no_more(place: Place) -> None:
    cache, alice, bob = place.cache, place.alice, place.bob
    mine = [place.entry("l", 1), place.entry("d", 2, None, alice)]
    others = [place.entry("b", 3, bob), place.entry("r", 4, bob, alice)]
    hers = [place.entry(f"a{i}", b"x" * (40_000 if i < 3 else i), alice, *[bob][: i % 2]) for i in range(MANY)]
    place.put(*mine, *others, *hers)
    same("recalled by one that sent nothing", cache.commit(Changes(recall=Recall(place.carol, set()))).recalled, 0)
    offered = {e.cid for e in hers[1::2]}
    came = place.entry("n", 5, alice)
    done = cache.commit(Changes(recall=Recall(alice, offered | {came.cid}), put=cache.stage([came])))
    same("how many were recalled", (done.recalled, done.dropped, done.withdrawn), (MANY - len(offered), 0, 0))
    same("what is left", place.ours(), {e.cid for e in (*mine, *others, came)} | offered)
    same("the origin of what is left", place.held("a1").origin, hers[1].origin)
    same("recalled again", cache.commit(Changes(recall=Recall(alice, offered | {came.cid}))).recalled, 0)

    place.withdraw(alice)
    same("recalled when all is withdrawn", cache.commit(Changes(recall=Recall(alice, ()))).recalled, 0)


def relabels_only_what_is_as_it_was(place: Place) -> None:
    cache, alice, bob, carol = place.cache, place.alice, place.bob, place.carol
    names = ("confirmed", "digest", "token", "basis", "dropped", "replaced")
    entries = {name: place.entry(name, b"x" * 50_000 + name.encode(), alice, carol, seconds=0.5) for name in names}
    place.put(*entries.values(), place.entry("b", 1, bob), place.entry("c", 1, carol))
    token, bobs, carols = place.held("confirmed").token, place.held("b").token, place.held("c").token
    ours, before = Origin(None, frozenset([bob])), cache.origins()[Origin(alice, frozenset([carol]))]
    same("seconds before", before.seconds, 3.0)
    new = {entries[name].cid: Relabel(token, entry.digest, ours, frozenset([bobs])) for name, entry in entries.items()}
    new[entries["digest"].cid] = new[entries["digest"].cid]._replace(digest="0" * 64)
    new[entries["token"].cid] = new[entries["token"].cid]._replace(token=bobs)
    new[entries["basis"].cid] = new[entries["basis"].cid]._replace(basis=frozenset([bobs, carols]))
    new[place.cid("absent")] = new[entries["confirmed"].cid]
    changes = Changes(
        withdraw=lambda origin: origin == Origin(carol),
        drop=frozenset([entries["dropped"].cid]),
        put=cache.stage([place.entry("replaced", 2)]),
        relabel=new,
    )
    done = cache.commit(changes)
    same("how many got another origin", done.relabelled, 1)
    same("the origin that was meant", place.held("confirmed").origin, ours)
    same("the result itself", cache[entries["confirmed"].cid], b"x" * 50_000 + b"confirmed")
    for name in ("digest", "token", "basis"):
        same(f"the origin of what has another {name}", place.held(name).origin, Origin(alice, frozenset([carol])))
    same("what was dropped", place.cid("dropped") in cache, False)
    same("what was replaced", place.held("replaced").origin, Origin(None))
    left = cache.origins()[Origin(alice, frozenset([carol]))]
    same("what the former origin comes to", (left.results, left.seconds), (3, 1.5))
    same("what the new one comes to", cache.origins()[ours].results, 1)
    same("the former origin withdrawn", place.withdraw(alice).withdrawn, 3)
    same("what stays then", place.cid("confirmed") in cache, True)
    digest = entries["confirmed"].digest
    gone = Changes(
        withdraw=lambda origin: origin == ours,
        relabel={place.cid("confirmed"): Relabel(place.held("confirmed").token, digest, Origin(None))},
    )
    done = cache.commit(gone)
    same("withdrawn and relabelled in one commit", (done.withdrawn, done.relabelled), (1, 0))


def keeps_or_replaces_the_inputs_digest_of_what_it_relabels(place: Place) -> None:
    cache, alice = place.cache, place.alice
    mine = [place.entry(i, i, None, alice, inputs_digest="1" * 64) for i in range(2)]
    hers = [place.entry(i, i, alice) for i in (2, 3)]
    place.put(*mine, *hers)
    made_from = {0: "", 1: "2" * 64, 2: "", 3: "3" * 64}
    new = {
        e.cid: Relabel(place.held(i).token, e.digest, Origin(None), inputs_digest=made_from[i])
        for i, e in enumerate([*mine, *hers])
    }
    same("how many got another origin", cache.commit(Changes(relabel=new)).relabelled, 4)
    found = [cache.made([place.cid(i)])[place.cid(i)].inputs_digest for i in range(4)]
    same("what they were made from", found, ["1" * 64, "2" * 64, "", "3" * 64])
    # What has that origin already is said to have been made from something else, and keeps all the rest.
    place.put(place.entry("s", 1, alice, signature=b"hers"))
    held = place.held("s")
    token, origin = held.token, held.origin
    again = {place.cid("s"): Relabel(token, held.digest, origin, inputs_digest="4" * 64)}
    cache.made(again)  # in memory, sizes are worked out when they are asked for
    counts = cache.origins()[origin]
    same("relabelled as it was", cache.commit(Changes(relabel=again)).relabelled, 1)
    same("what it was made from", cache.made(again)[place.cid("s")].inputs_digest, "4" * 64)
    same("its origin and what that comes to", (place.held("s").origin, cache.origins()[origin]), (origin, counts))
    place.put(place.entry("s", 2, place.bob))
    signed = {offer.peer: offer.signature for offer in cache.offers([place.cid("s")])}
    same("the signatures, in its offer and that of one without", signed, {alice: b"hers", place.bob: b""})


# --- evidence ---------------------------------------------------------------------------------


def _offers(place: Place, *cids: Cid) -> list[Offer]:
    """All that are kept about our cids, or about these."""
    return [offer for offer in place.cache.offers(cids or None) if offer.cid.startswith(place.prefix)]


def _offer(place: Place, entry: Entry, at: float) -> Offer:
    size = place.cache.made([entry.cid])[entry.cid].size  # all results of one cid are as long here
    return Offer(entry.cid, entry.origin.peer, entry.digest, size, entry.origin.lineage, entry.signature, at)


def _sorted(offers: Iterable[Offer]) -> list[Offer]:
    return sorted(offers, key=lambda o: (o.cid, o.peer or "", o.digest, sorted(o.lineage)))


def keeps_the_offers_that_met(place: Place) -> None:
    cache, alice, bob = place.cache, place.alice, place.bob
    hers = [place.entry(i, f"{i:060000}", alice, signature=b"hers") for i in range(4)]
    place.put(*hers)
    place.put(*hers)
    same("the offers after the same bundle came again", _offers(place), [])
    his = [
        place.entry(0, f"{0:060000}", bob),
        place.entry(1, f"{9:060000}", bob, signature=b"his"),
        place.entry(2, f"{2:060000}", alice, bob),
        place.entry(3, f"{9:060000}"),  # computed here, so it stands from now on
        place.entry("alone", 1, bob),
    ]
    for _ in range(2):
        cache.commit(Changes(put=cache.stage(his), at=5.5))
    expected = _sorted(_offer(place, entry, 5.5) for entry in (*hers, *his[:4]))
    found = _offers(place)
    same("the offers that met", _sorted(found), expected)
    same("the order of their cids and peers", [o[:3] for o in found], [o[:3] for o in expected])
    same("those about one cid", _offers(place, place.cid(1), place.cid("absent"), place.cid(1)), found[2:4])
    bobs = place.held("alone").token
    place.withdraw(alice)
    place.withdraw(bob)
    cache.commit(Changes(drop=frozenset([place.cid(3)])))
    same("the offers when nothing of it is held any more", _offers(place), found)
    stale = place.entry(2, 5, basis=frozenset([bobs]))
    settle = frozenset([place.cid(1), place.cid("absent"), stale.cid])
    cache.commit(Changes(settle=settle, put=cache.stage([hers[1], his[1], stale])))
    same("the offers after one cid was settled", _offers(place), [o for o in found if o.cid != place.cid(1)])
    cache.commit(Changes(settle=frozenset(map(place.cid, range(4)))))
    same("the offers after all were settled", _offers(place), [])


def keeps_the_same_offers_in_any_order(place: Place) -> None:
    """Five offers of three peers and of ours, in all orders, in commits of their own and in one."""
    cache, peers = place.cache, (place.alice, place.bob, place.carol)
    for number, order in enumerate(permutations(range(5))):
        name = f"o{number}"
        offered = [place.entry(name, i % 2, peer, signature=b"s" * i) for i, peer in enumerate(peers)]
        offered += [place.entry(name, 2, place.alice, place.bob), place.entry(name, 1)]
        arriving = [offered[i] for i in order]
        if number % 2:
            for entry in arriving:
                place.put(entry)
        else:
            foreign = [entry for entry in arriving if not entry.origin.local]
            place.put(*foreign)
            place.put(offered[4], offered[4])
        expected = {(e.origin, e.digest, e.signature) for e in offered}
        found = [(Origin(o.peer, o.lineage), o.digest, o.signature) for o in _offers(place, place.cid(name))]
        same(f"what is kept of offers in the order {order}", set(found), expected)
        same("how often each is kept", len(found), len(expected))
        same("what stands", place.held(name).origin, Origin(None))
    cids = [offer.cid for offer in cache.offers()]
    same("the order of all offers", cids, sorted(cids))


def gives_many_offers(place: Place) -> None:
    cache = place.cache
    place.put(*(place.entry(f"{i:04}", i, place.alice) for i in range(MANY)))
    place.put(*(place.entry(f"{i:04}", i if i % 2 else -i - 1, place.bob) for i in range(MANY)))
    found = _offers(place)
    same("how many there are", (len(found), len(set(found))), (2 * MANY, 2 * MANY))
    same("how many of them differ", len({(o.cid, o.digest) for o in found}), MANY + MANY // 2)
    ours = frozenset(place.ours())
    same("those asked for by name", list(cache.offers(ours)), found)
    cache.commit(Changes(settle=ours))
    same("what is left", _offers(place), [])


CHANGE_CHECKS: tuple[Callable[[Place], None], ...] = (
    counts_what_results_come_to,
    lists_the_oldest_first,
    drops_only_what_is_as_it_was,
    recalls_what_a_peer_offers_no_more,
    relabels_only_what_is_as_it_was,
    keeps_or_replaces_the_inputs_digest_of_what_it_relabels,
    keeps_the_offers_that_met,
    keeps_the_same_offers_in_any_order,
    gives_many_offers,
)
