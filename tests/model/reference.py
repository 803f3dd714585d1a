"""What an instance holds after each verb, in dicts and sets: the promises of the library, written down a second time.

Rules: nothing of the library is used, and nothing of how it stores; a value stands for a result and its digest. Each
verb is a method, changes the model, and returns what the report has to say. What a record has to be is in `road`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from tests.model.road import Compute, Meanwhile, Offered, Peers, Policy, Row, made_here, verdict


class Model:
    """One instance. inputs: those of each cid, inputs first."""

    def __init__(self, inputs: dict[str, tuple[str, ...]]) -> None:
        self.inputs = inputs
        self.rows: dict[str, Row] = {}  # the oldest stored first
        self.offers: set[tuple[str, int, str | None, Peers]] = set()

    def _commit(self, arriving: Iterable[tuple[str, Row]]) -> Counter[str]:
        """What is computed here replaces what is held, what comes from others never does."""
        fresh, count = dict[str, Row](), Counter[str]()
        for cid, row in arriving:
            held = fresh.get(cid) or self.rows.get(cid)
            if held is not None and held[:3] != row[:3]:
                self.offers |= {(cid, *held[:3]), (cid, *row[:3])}
            if held is None or row.peer is None:
                fresh[cid] = row
            elif held.value == row.value:
                count["unchanged"] += 1
            count["conflicts"] += held is not None and held.value != row.value
        self._drop(fresh)
        self.rows.update(fresh)
        count.update(f"rests on {peer}" for row in fresh.values() if row.peer for peer in row.lineage)
        return count + Counter(admitted=len(fresh))

    def _drop(self, gone: Iterable[str]) -> Counter[str]:
        return Counter(dropped=len([self.rows.pop(cid) for cid in gone if cid in self.rows]))

    def _below(self, cid: str) -> tuple[str, ...]:
        return self.inputs[cid] if cid in self.rows and self.rows[cid].recipe else ()

    def export(self, name: str, cids: Iterable[str] | None = None, trusted: Peers | None = None) -> list[Offered]:
        held = [(cid, self.rows[cid]) for cid in (self.rows if cids is None else cids) if cid in self.rows]
        good = [(cid, row) for cid, row in held if trusted is None or row.peers <= trusted]
        return [Offered(cid, row.value, name, row.peers - {name}, row.recipe) for cid, row in good]

    def take(self, records: list[Offered], policy: Policy, asked: str = "", mirror: bool = False) -> Counter[str]:
        """import_, and pull where someone was asked. mirror: what that one offers no more goes."""
        verdicts = [(r, verdict(r, policy, asked)) for r in records]
        gone = {cid for cid, row in self.rows.items() if mirror and row.peer == asked}
        count = self._drop(gone - {r.cid for r in records if r.peer == asked})
        count.update(reason for _, reason in verdicts if reason)
        admitted = [(r.cid, Row(r.value, r.peer, r.lineage, r.recipe)) for r, reason in verdicts if not reason]
        return count + self._commit(admitted)

    def invalidate(self, peer: str, derived: bool) -> Counter[str]:
        count = self._drop([c for c, row in self.rows.items() if row.peer == peer or (derived and peer in row.lineage)])
        return count + Counter({f"rests on {peer}": sum(peer in row.lineage for row in self.rows.values())})

    def forget(self, cids: Iterable[str], derived: bool) -> Counter[str]:
        gone = set(cids)
        for cid in self.inputs if derived else ():  # inputs first, so once is enough
            gone |= {cid} if gone & set(self._below(cid)) else set()
        self.offers = {offer for offer in self.offers if offer[0] not in gone}
        return self._drop(gone)

    def prune(self, size: Callable[[str, int], int], max_bytes: int, keep: Iterable[str]) -> Counter[str]:
        kept, gone, left = set(keep), list[str](), sum(size(cid, row.value) for cid, row in self.rows.items())
        for cid in reversed(self.inputs):
            kept |= set(self._below(cid)) if cid in kept else set()
        for cid, row in sorted(self.rows.items(), key=lambda item: item[1].peer is None):  # the foreign ones first
            if left > max_bytes and cid not in kept:
                gone.append(cid)
                left -= size(cid, row.value)
        return self._drop(gone)

    def challenge(
        self, compute: Compute, same: Callable[[str, int, int], bool], peer: str | None, chosen: Collection[str]
    ) -> Counter[str]:
        """Of `chosen`, what came from the peer (None: from anyone) is computed again, inputs first."""
        count, replaced, bad, wrong = Counter[str](), dict[str, Row](), dict[str, Peers](), set[str]()
        before = {cid: row.value for cid, row in self.rows.items()}
        for cid in [cid for cid in self.inputs if cid in self.rows]:
            row, below = self.rows[cid], self._below(cid)
            bad[cid] = frozenset().union(*(bad.get(i, ()) for i in below))  # whose refuted results it was built on
            whole = row.recipe and all(i in self.rows for i in below)
            now = made_here(row.value, tuple(self.rows[i] for i in below if whole))
            if row.peer is not None and peer in (None, row.peer) and cid in chosen:
                value = compute(cid, now.made or ()) if whole else None
                value = row.value if value is not None and same(cid, row.value, value) else value
                count["unchecked" if value is None else "confirmed" if value == row.value else "refuted"] += 1
                if value is not None:
                    self.offers = {offer for offer in self.offers if offer[0] != cid}
                    self.rows[cid] = now._replace(value=value)
                    if value != row.value:
                        replaced[cid], bad[cid], wrong = self.rows[cid], bad[cid] | {row.peer}, wrong | {cid}
                    continue
            exact, then = whole and row.made == now.made, tuple(map(before.get, below))
            if exact and now.lineage < row.lineage and all(self.rows[i].peer is None for i in below):
                count["vindicated"] += 1
                self.rows[cid] = row._replace(lineage=now.lineage)
            elif not exact and ((built := wrong & {*below} and row.made == then) or row.peers & bad[cid]):
                wrong |= {cid} if built else set()
                count["gone"] += self._drop([cid])["dropped"]
        self._commit(replaced.items())
        return count

    def run(
        self, targets: Iterable[str], compute: Compute, trusted: Peers | None = None, refresh: bool = False,
        keep_going: bool = False, meanwhile: Meanwhile | None = None,
    ) -> Counter[str]:  # fmt: skip
        made, basis, bad, count = dict[str, Row](), dict[str, set[Any]](), set[str](), Counter[str]()

        def have(cid: str) -> bool:
            row = self.rows.get(cid)
            return cid in made or (row is not None and not refresh and (trusted is None or row.peers <= trusted))

        def visit(cid: str) -> bool:  # make it, where it is missing; whether to go on
            if cid in bad or have(cid):
                return True
            missing = [i for i in self.inputs[cid] if not have(i)]
            if not bad & {*missing} and not all(map(visit, missing)):
                return False
            left_out = bad & {*missing}
            row = made_here(0, () if left_out else tuple(made.get(i) or self.rows[i] for i in self.inputs[cid]))
            value = None if left_out else compute(cid, row.made or ())
            if value is None:
                count["skipped" if left_out else "failed"] += 1
                bad.add(cid)
                return keep_going
            made[cid] = row._replace(value=value)
            basis[cid] = set().union(*(basis[i] if i in made else {self.rows[i][1:3]} for i in self.inputs[cid]))
            return True

        all(map(visit, targets))
        stale = set[str]()
        if meanwhile is not None:  # it happens as the one target is computed, which was missing
            peer, derived, records, policy = meanwhile
            stale = {c for c in made if any(o[0] == peer or (derived and peer in o[1]) for o in basis[c])}
            self.invalidate(peer, derived)
            self.take(records, policy)
        count += self._commit((cid, row) for cid, row in made.items() if cid not in stale)
        count["computed"] = len(made) - len(stale)
        return count + self.run(targets, compute) if stale else count
