"""The page for people at the root of a served instance: what it offers, from whom, on whom it rests, how to fetch it.

Rules: it tells of what is offered and of nothing else: with `trusted`, what is kept back is neither named nor counted.
All is told from the origins that the cache keeps; no result is read, none is walked. At most `MOST_PEERS` peers are
listed and `DRAWN` drawn, the others counted. Names are others' text: escaped and shortened by the drawing kit, and in
code spelt in ASCII. Nothing on the page runs, loads, links or can be sent.

>>> from artdag_fed.caches.memory import MemoryCache
>>> text = page_of(MemoryCache({"c1": 1}), "alice", url="http://127.0.0.1:8000/")
>>> "All that this instance holds: 1 result" in text, "<script" in text
(True, False)
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from artdag_fed.cache import Origin, OriginCache, Total
from artdag_fed.callables import Trust
from artdag_fed.drawing import Amount, Box, Cell, Graph, Mark, Table, quoted, size
from artdag_fed.drawing_page import POLICY, Code, page
from artdag_fed.drawing_words import count_of, most_first
from artdag_fed.instance import by_peer
from artdag_fed.names import PeerId
from artdag_fed.planning import acceptance
from artdag_fed.transports.http_connection import Url

__all__ = ["DRAWN", "MOST_PEERS", "PAGE_HEADERS", "page_of"]

MOST_PEERS: Final = 20
"""Peers in a table: what a person reads. Programs have `fed.provenance` and `python -m artdag_fed info --json`."""
DRAWN: Final = 4
"""Peers in each of the two rows of the picture, which so fits a page."""
MOST_URL: Final = 500  # letters; the host is what the client said, and is said back to nobody else

WITH_ITS_OWN: Final = (
    "With its own, they are what goes when trust in the peer is withdrawn with all that was built on its results."
)

PAGE_HEADERS: Final = (
    ("Content-Security-Policy", f"{POLICY}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
"""Beside those that every answer has: a browser shows the page alone, loads nothing for it and runs nothing in it."""


def page_of(
    cache: OriginCache,
    peer_id: PeerId,
    *,
    trusted: Trust | None = None,
    url: str,
    signed: bool = False,
    guarded: bool = False,
) -> str:
    """The page, as HTML, about what `export(..., peer_id, trusted=trusted)` offers of `cache`.

    url: the base of the instance, as the client sees it. signed, guarded: whether records are signed, and whether a
    token is needed. Raises what `trusted` raises, `TypeError` where it answers neither True nor False, `StoreError`.
    """
    accepted = acceptance(trusted)
    told = [(origin, total) for origin, total in cache.origins().items() if accepted is None or accepted(origin)]
    totals = {None: Total()} | by_peer(told)
    resting = _resting(told)
    offer = [_summary(totals, trusted is not None), _terms(peer_id, signed, guarded)]
    if not cache.encodes:
        offer.append("It is held in memory: a result that cannot be written as bytes is left out when it is fetched.")
    whom: list[str | Code | Table | Graph] = ["None of these results is declared to rest on another peer's."]
    if resting:
        built = by_peer((origin, total) for origin, total in told if origin.lineage)
        whom = [_resting_table(totals, resting), WITH_ITS_OWN, _picture(totals, built, resting)]
    return page(
        f"Results of {quoted(peer_id, 60)}",
        [
            ("What it offers", offer),
            ("From whom", [_whence_table(totals)]),
            ("What rests on whom", whom),
            ("How to fetch it", _code(peer_id, url.rstrip("/"), signed, guarded)),
        ],
    )


# --- counting ---------------------------------------------------------------------------------


def _resting(told: Iterable[tuple[Origin, Total]]) -> dict[PeerId, Counter[PeerId | None]]:
    """For each peer that something rests on, how many results do, by whom these came from."""
    resting: dict[PeerId, Counter[PeerId | None]] = {}
    for origin, total in told:
        for peer in origin.lineage:
            resting.setdefault(peer, Counter())[origin.peer] += total.results
    return resting


def _most_first(counted: Mapping[PeerId, int], most: int) -> list[PeerId]:
    return [peer for peer, _ in most_first(counted)[:most]]


def _left_out(all_of_them: Collection[PeerId], shown: Collection[PeerId]) -> str:
    left = len(all_of_them) - len(shown)
    return f"and {left:,} more {'peer' if left == 1 else 'peers'}" if left else ""


# --- telling ----------------------------------------------------------------------------------


def _summary(totals: Mapping[PeerId | None, Total], chosen: bool) -> str:
    results = Total.of(totals.values()).results
    here, peers = totals[None], len(totals) - 1
    took = f" in {here.seconds:,.1f} s" if here.seconds >= 0.05 else ""
    others = f"{results - here.results:,} from {count_of(peers, 'peer')}"
    of_which = f", {here.results:,} computed here{took} and {others}" if results else ""
    if not chosen:
        return f"All that this instance holds: {count_of(results, 'result')}{of_which}."
    return (
        f"{count_of(results, 'result')}{of_which}. It vouches for all peers that these came from or rest on; "
        "whatever else it may hold is not offered, and not told here."
    )


def _terms(peer_id: PeerId, signed: bool, guarded: bool) -> str:
    name = quoted(peer_id, 60)
    whom = "whoever has a token that is valid here" if guarded else "everyone who can reach this address"
    how = f"signed with the key of {name}" if signed else "unsigned: who fetches goes by the address"
    return f"Each is offered in the name of {name}, to {whom}, {how}."


def _whence_table(totals: Mapping[PeerId | None, Total]) -> Table:
    peers = {peer: total.results for peer, total in totals.items() if peer is not None}
    listed = _most_first(peers, MOST_PEERS)

    def row(mark: Mark, total: Total) -> tuple[Cell, ...]:
        # What a cache does not know counts 0 there, and is better not said.
        return mark, total.results, Amount(size(total.bytes)) if total.bytes else ""

    rows = [row(Mark("here", "computed here"), totals[None])]
    rows += [row(Mark("peer", f"from {quoted(peer, 40)}"), totals[peer]) for peer in listed]
    return Table(("origin", "results", "size"), rows, "Where the results came from", _left_out(peers, listed))


def _resting_table(totals: Mapping[PeerId | None, Total], resting: Mapping[PeerId, Counter[PeerId | None]]) -> Table:
    listed = _most_first({peer: counts.total() for peer, counts in resting.items()}, MOST_PEERS)
    rows = []
    for peer in listed:
        here, all_of_them = resting[peer][None], resting[peer].total()
        own = totals[peer].results if peer in totals else 0
        rows.append((Mark("peer", quoted(peer, 40)), here, all_of_them - here, all_of_them + own))
    columns = ("peer", "made here", "from others", "with its own")
    return Table(columns, rows, "How many are declared to rest on each peer's results", _left_out(resting, listed))


def _picture(
    totals: Mapping[PeerId | None, Total],
    built: Mapping[PeerId | None, Total],
    resting: Mapping[PeerId, Counter[PeerId | None]],
) -> Graph:
    """Above, whose results are rested on; below, whose rest on them: nobody is both, so nothing goes in a circle."""
    above = _most_first({peer: on.total() for peer, on in resting.items()}, DRAWN)
    counts = {whose: built[whose].results for peer in above for whose in resting[peer]}
    below: list[PeerId | None] = [None] if None in counts else []
    below += _most_first({peer: count for peer, count in counts.items() if peer is not None}, DRAWN - len(below))
    above = [peer for peer in above if not resting[peer].keys().isdisjoint(below)]
    boxes = []
    for peer in below:
        some, most = built[peer].results, totals[peer].results
        boxes.append(
            Box(
                "here" if peer is None else f"from {peer}",
                "computed here" if peer is None else f"from {quoted(peer, 18)}",
                words=count_of(most, "result") if some == most else f"{some:,} of {most:,} results",
                kind="here" if peer is None else "peer",
                inputs=tuple(f"of {other}" for other in above if peer in resting[other]),
            )
        )
    boxes += [Box(f"of {peer}", f"results of {quoted(peer, 12)}") for peer in above]
    left = len((resting.keys() | built.keys()) - {None, *above, *below})
    note = "Arrows go from whose results were used to what was made of them."
    return Graph(tuple(boxes), "What rests on whom", f"{note} Left out: {count_of(left, 'peer')}." if left else note)


def _code(peer_id: PeerId, url: str, signed: bool, guarded: bool) -> list[str | Code | Table | Graph]:
    """In Python always, for a terminal where the name is nothing that a shell or `argparse` could take amiss."""
    try:
        Url.of(url)
    except ValueError:
        url = ""
    if len(url) > MOST_URL or not url:
        url = "https://the-address-of-this-page"
    tokens = ', tokens={peer: "YOUR-TOKEN"}' if guarded else ""
    parts: list[str | Code | Table | Graph] = [
        "With artdag_fed in Python; results are kept in the folder named results:",
        Code(
            (
                "import artdag_fed",
                "from artdag_fed.transports import http",
                f"peer, url = {peer_id!a}, {url!a}",
                f"fetch = http.fetcher({{peer: url}}{tokens})",
                'fed = artdag_fed.pull(artdag_fed.open("results"), fetch, peer, trusted={peer}.__contains__)',
            )
        ),
    ]
    if peer_id.isascii() and not peer_id.startswith("-"):
        name = shlex.quote(peer_id)
        file = " --token-file YOUR-TOKEN-FILE" if guarded else ""
        command = f"python -m artdag_fed pull results {name} {shlex.quote(url)} --trust {name}{file}"
        parts += ["The same in a terminal:", Code((command,))]
    more = "Where your browser shows another address than this, take that."
    more += " A token travels over https, or within one machine." if guarded else ""
    more += " To check the signatures, pull takes verify=, with a key that you have from elsewhere." if signed else ""
    return [*parts, more]
