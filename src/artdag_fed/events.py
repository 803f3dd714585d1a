"""What a call tells while it works (`Event`) and when it is done (`Report`).

Rules: an event is data about something that has happened or was decided, never a question; the kinds and the reasons of
rejection are closed lists; a report counts and names, it holds no results.

>>> Event("rejected", cid="c1", peer="mallory", reason="untrusted")
Event('rejected', cid='c1', peer='mallory', reason='untrusted')
>>> Report(admitted=2, rejected={"untrusted": 1})
Report(admitted=2, rejected={'untrusted': 1})
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from heapq import nlargest
from types import MappingProxyType
from typing import Literal, NamedTuple

from artdag_fed import drawing
from artdag_fed.names import Cid, PeerId, shown

__all__ = ["EXAMPLES", "REASONS", "Event", "Kind", "Reason", "Report", "Total", "tell_damaged"]

Kind = Literal[
    "rejected",  # a record was refused at the gate: reason, cid and peer as the record has them, where they are text
    "committed",  # `count` results became readable, together
    "conflict",  # two results for one cid: `held` and `offered` digests, `peer` the one that offered; reason: who stays
    "unheard",  # a peer whose word was wanted (`quorum`) gave none, or broke off: reason says why
    "withdrawn",  # origins were marked as withdrawn: `count` results of `peer` are unreadable from here on
    "dropped",  # `count` results were dropped by name, or by `prune`
    "recalled",  # `count` results of `peer` were dropped, as it offers them no more
    "damaged",  # stored bytes that fail their digest, or a peer's that are no value: not returned, a miss
    "computed",  # a node was computed: op and seconds
    "reused",  # a held result is used instead of computing: `peer` where it came from one
    "resourced",  # a held result of `op` is used that other code made: hashes `held` and `offered`; once per op and run
    "repeated",  # a result is computed again, since what it was made from was withdrawn meanwhile
    "failed",  # a node could not be computed: reason says why
    "skipped",  # a node was not computed, since one that it needs failed
]

Reason = Literal["malformed", "mislabelled", "untrusted", "lineage", "corrupt", "unsigned", "forged", "recipe"]
REASONS: tuple[Reason, ...] = (
    "malformed",  # not well-formed, or over a limit for one record
    "mislabelled",  # names another peer than the one that was asked
    "untrusted",  # its peer is not trusted
    "lineage",  # it rests on a peer that `trusted_lineage` refuses
    "corrupt",  # its bytes are not those that its digest names
    "unsigned",  # no signature, where one is needed
    "forged",  # the signature does not verify for its peer
    "recipe",  # its recipe is not what its cid is the hash of
)

log = logging.getLogger("artdag_fed")

RESTING = 10  # peers shown
EXAMPLES = 3  # enough to look one up; a bundle may be rejected a million times


def _brief(value: object) -> str:
    """The repr of a dataclass with only the fields that say something."""
    parts = []
    for f in fields(value):  # type: ignore[arg-type]  # both callers are dataclasses
        said = getattr(value, f.name)
        spelt = repr(dict(said) if isinstance(said, Mapping) else said)
        if not f.repr:
            continue
        if f.name == "kind":
            parts.append(spelt)
        elif said:
            parts.append(f"{f.name}={spelt}")
    return f"{type(value).__name__}({', '.join(parts)})"


class Total(NamedTuple):
    """What several results come to, those of one origin or of one peer."""

    results: int = 0
    bytes: int = 0
    """Of the encoded results; in memory those that were never encoded are unknown and count 0."""
    seconds: float = 0.0
    """What computing them took; those that are unknown count 0."""

    def plus(self, results: int, size: int, seconds: float) -> Total:
        """The total with so much more."""
        return Total(self.results + results, self.bytes + size, self.seconds + seconds)

    @staticmethod
    def of(totals: Collection[Total]) -> Total:
        """What all of these come to.

        >>> Total.of([Total(1, 10, 0.5), Total(2, 20, 0.25)])
        Total(results=3, bytes=30, seconds=0.75)
        """
        return Total(sum(t.results for t in totals), sum(t.bytes for t in totals), sum(t.seconds for t in totals))


@dataclass(frozen=True, slots=True, repr=False)
class Event:
    """Something that happened. Fields that a kind does not need are empty.

    `kind` is one of `Kind`; `held` and `offered` are digests (hex, or "" where a value has none), of code where it is
    "resourced"; `seconds` is what a computation took.
    """

    kind: Kind
    cid: Cid = ""
    peer: PeerId = ""
    op: str = ""
    reason: str = ""
    held: str = ""
    offered: str = ""
    count: int = 0
    seconds: float = 0.0

    __repr__ = _brief


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """What the call that returned this did. A record of a bundle is counted once: admitted, unchanged, in conflict or
    rejected.

    `admitted`: results that are now held and were not; `unchanged`: records of results that were held already, equal;
    `conflicts`: records of results that were held with another digest; `rejected`: records refused, by reason (see
    `REASONS`; 0 for a reason that did not occur); `dropped`: results that are no longer readable; `resting_on`: after
    an import, how many of the admitted rest on which other peer; after `invalidate`, how many that stay rest on its
    peer; `examples`: the cids of the first `EXAMPLES` records that were rejected for each reason, as they claimed, for
    people: not part of equality or of the repr; `dropping`: what a dry run found to drop, and what `prune` dropped, by
    the peer that it came from (None: computed here); `holding`: what is left after `prune`, or would be.
    """

    admitted: int = 0
    unchanged: int = 0
    conflicts: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    dropped: int = 0
    resting_on: Mapping[PeerId, int] = field(default_factory=dict)
    examples: Mapping[str, tuple[Cid, ...]] = field(default_factory=dict, compare=False, repr=False)
    dropping: Mapping[PeerId | None, Total] = field(default_factory=dict)
    holding: Total | None = None

    def __post_init__(self) -> None:
        for name in ("rejected", "resting_on"):
            object.__setattr__(self, name, MappingProxyType(Counter(getattr(self, name))))
        for name in ("examples", "dropping"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    __repr__ = _brief

    def _repr_html_(self) -> str:
        rows: list[tuple[drawing.Cell, ...]] = [
            (what, count, "")
            for what, count in (
                ("admitted", self.admitted),
                ("held already, equal", self.unchanged),
                ("in conflict", self.conflicts),
                ("dropped", self.dropped),
            )
            if count
        ]
        for reason, count in self.rejected.items():
            examples = self.examples.get(reason, ())
            rows.append((drawing.Mark("refused", f"rejected: {reason}"), count, ", ".join(examples[:EXAMPLES])))
        resting = nlargest(RESTING, self.resting_on.items(), key=lambda item: item[1])
        rows += [(f"resting on {drawing.quoted(peer, 40)}", count, "") for peer, count in resting]
        going = nlargest(RESTING, self.dropping.items(), key=lambda item: item[1].results)
        word = "went" if self.dropped else "would go"
        for whose, total in going:
            whence = "computed here" if whose is None else f"from {drawing.quoted(whose, 40)}"
            mark = drawing.Mark("here" if whose is None else "peer", f"{word}: {whence}")
            rows.append((mark, total.results, _weight(total)))
        if self.holding is not None:
            rows.append(("left", self.holding.results, _weight(self.holding)))
        hidden = (
            (len(self.resting_on) - len(resting), "that some rest on"),
            (len(self.dropping) - len(going), f"whose results {word}"),
        )
        more = ", ".join(f"and {number:,} more peers {what}" for number, what in hidden if number)
        third = "that is" if self.dropping or self.holding else "such as"
        return drawing.html(drawing.Table(("Report", "results", third), rows, more=more if rows else "nothing"))


def _weight(total: Total) -> str:
    """Size and seconds, as far as they are known."""
    size = drawing.size(total.bytes) if total.bytes else ""
    seconds = f"computed in {total.seconds:,.1f} s" if total.seconds else ""
    return ", ".join(filter(None, (size, seconds)))


def tell_damaged(observe: Callable[[Event], None] | None, cid: Cid, why: str) -> None:
    """Say that the stored bytes of `cid` are not used: an event, or a logged warning where nobody observes."""
    if observe is not None:
        observe(Event("damaged", cid=cid, reason=why))
    else:
        log.warning("the held result of %s is not used: %s", shown(cid), why)
