"""What an instance holds after each verb, in dicts and sets: the promises of the library, written down a second time.

Rules: nothing of the library is used, and nothing of how it stores; a value stands for a result and its digest. Each
verb is a method with the name of the real one, changes the model, and returns what the report has to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

Peers = frozenset[str]


class Policy(NamedTuple):
    """Whom an instance trusts, whom it lets results rest on (None: anyone), whether it asks for signatures."""

    trusted: Peers
    lineage: Peers | None
    verify: bool


class Offered(NamedTuple):
    """A record on the road. signer: whose signature it has, "stale" for one over something else, "" for none."""

    cid: str
    value: int
    peer: str
    lineage: Peers
    recipe: bool = True
    signer: str = ""
    flaw: str = ""  # "corrupt": other bytes than declared; "recipe": another node's


class Row(NamedTuple):
    """What is held. made: the values of the inputs that it was computed from here, None where that is unknown."""

    value: int
    peer: str | None
    lineage: Peers
    recipe: bool = True
    made: tuple[int, ...] | None = None

    @property
    def peers(self) -> Peers:
        return self.lineage | ({self.peer} - {None})  # type: ignore[operator]  # None is taken out


def verdict(r: Offered, policy: Policy, asked: str | None) -> str:
    checks = (
        ("malformed", r.peer in r.lineage),
        ("mislabelled", asked is not None and not policy.verify and r.peer != asked),
        ("untrusted", r.peer not in policy.trusted),
        ("lineage", policy.lineage is not None and not r.lineage <= policy.lineage),
        ("corrupt", r.flaw == "corrupt"),
        ("unsigned", policy.verify and not r.signer),
        ("forged", policy.verify and r.signer != r.peer),
        ("recipe", r.flaw == "recipe"),
    )
    return next((reason for reason, failed in checks if failed), "")


class Model:
    """One instance. inputs: those of each cid; in_order: whether one commit stores by cid, as a disk does."""

    def __init__(self, inputs: Mapping[str, tuple[str, ...]], in_order: bool) -> None:
        self.inputs, self.in_order = inputs, in_order
        self.rows: dict[str, Row] = {}  # the oldest stored first
        self.offers: set[tuple[str, int, str | None, Peers]] = set()

    def _commit(self, arriving: Iterable[tuple[str, Row]]) -> Counter[str]:
        """The held/arriving table: what is computed here replaces what is held, what comes from others never does."""
        fresh: dict[str, Row] = {}
        count = Counter[str]()
        for cid, row in arriving:
            held = fresh.get(cid) or self.rows.get(cid)
            if held is not None and held[:3] != row[:3]:
                self.offers |= {(cid, *held[:3]), (cid, *row[:3])}
            differs = held is not None and held.value != row.value
            count["conflicts"] += differs
            if held is None or row.peer is None:
                fresh[cid] = row
            elif not differs:
                count["unchanged"] += 1
        for cid in sorted(fresh) if self.in_order else fresh:
            self.rows.pop(cid, None)
            self.rows[cid] = fresh[cid]
        count["admitted"] = len(fresh)
        count.update(f"rests on {p}" for row in fresh.values() if row.peer is not None for p in sorted(row.lineage))
        return count

    def _built_on(self, cids: Iterable[str]) -> set[str]:
        """What is held, has a recipe, and was built on these, with what was built on that."""
        found, before = set(cids), 0
        while len(found) > before:
            before = len(found)
            found |= {cid for cid, row in self.rows.items() if row.recipe and found & set(self.inputs[cid])}
        return found

    def _drop(self, gone: Iterable[str]) -> Counter[str]:
        dropped = [self.rows.pop(cid) for cid in sorted(gone) if cid in self.rows]
        return Counter(dropped=len(dropped))

    # --- the verbs --------------------------------------------------------------------------

    def export(self, name: str, cids: Iterable[str] | None = None, trusted: Peers | None = None) -> list[Offered]:
        chosen = [(cid, self.rows[cid]) for cid in (self.rows if cids is None else cids) if cid in self.rows]
        good = [(cid, row) for cid, row in chosen if trusted is None or row.peers <= trusted]
        return [Offered(cid, row.value, name, row.peers - {name}, row.recipe) for cid, row in good]

    def take(self, records: list[Offered], policy: Policy, asked: str | None = None) -> Counter[str]:
        """import_, and pull where someone was asked."""
        verdicts = [(r, verdict(r, policy, asked)) for r in records]
        rows = [(r.cid, Row(r.value, r.peer, r.lineage, r.recipe)) for r, reason in verdicts if not reason]
        return self._commit(rows) + Counter(reason for _, reason in verdicts if reason)

    def invalidate(self, peer: str, derived: bool) -> Counter[str]:
        gone = [c for c, row in self.rows.items() if row.peer == peer or (derived and peer in row.lineage)]
        count = self._drop(gone)
        count[f"rests on {peer}"] = sum(peer in row.lineage for row in self.rows.values())
        return count

    def forget(self, cids: Iterable[str], derived: bool) -> Counter[str]:
        gone = self._built_on(cids) if derived else set(cids)
        self.offers = {offer for offer in self.offers if offer[0] not in gone}
        return self._drop(gone)

    def run(
        self,
        targets: Iterable[str],
        compute: Callable[[str, tuple[int, ...]], int | None],
        trusted: Peers | None = None,
        refresh: bool = False,
        keep_going: bool = False,
        meanwhile: tuple[str, bool, list[Offered], Policy] | None = None,
    ) -> Counter[str]:
        """`compute` gives None where a node fails. meanwhile: as the one target is computed, which was missing, trust
        in that peer is withdrawn (derived or not), and these records are imported."""
        made: dict[str, Row] = {}
        basis: dict[str, set[Any]] = {}  # the origins that each rests on
        bad: set[str] = set()
        count = Counter[str]()

        def have(cid: str) -> bool:
            row = self.rows.get(cid)
            return cid in made or (row is not None and not refresh and (trusted is None or row.peers <= trusted))

        def visit(cid: str) -> bool:
            """Make it, where it is missing; whether to go on."""
            if cid in bad or have(cid):
                return True
            missing = [i for i in self.inputs[cid] if not have(i)]
            if not bad & set(missing) and not all(map(visit, missing)):
                return False
            if bad & set(missing):
                bad.add(cid)
                count["skipped"] += 1
                return True
            rows = [made.get(i) or self.rows[i] for i in self.inputs[cid]]
            values = tuple(row.value for row in rows)
            value = compute(cid, values)
            if value is None:
                bad.add(cid)
                count["failed"] += 1
                return keep_going
            made[cid] = Row(value, None, frozenset().union(*(row.peers for row in rows)), True, values)
            basis[cid] = set().union(*(basis[i] if i in made else {self.rows[i][1:3]} for i in self.inputs[cid]))
            return True

        all(map(visit, targets))
        stale: set[str] = set()
        if meanwhile is not None:
            peer, derived, records, policy = meanwhile
            gone = {o for origins in basis.values() for o in origins if o[0] == peer or (derived and peer in o[1])}
            stale = {cid for cid in made if basis[cid] & gone}
            self.invalidate(peer, derived)
            self.take(records, policy)
        count["computed"] = len(made) - len(stale)
        count += self._commit((cid, row) for cid, row in made.items() if cid not in stale)
        return count + self.run(targets, compute) if stale else count
