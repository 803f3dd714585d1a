"""What the driver may do next: steps that are chosen by chance, and what peers send in them, which may be lies.

Rules: chance is one `Random`, and what it chooses from is in a fixed order. What an honest peer sends is what its real
instance exports, which has to be what its model does.
"""

from __future__ import annotations

from itertools import zip_longest
from random import Random
from typing import Any

import artdag_fed
from artdag_fed import Federation
from tests.model.comparing import Difference
from tests.model.reference import Model
from tests.model.road import Offered, Policy
from tests.model.universe import CIDS, OPS, PEERS, PRIME, size_of, wrong_by
from tests.model.verbs import Errand, Step, value_for

__all__ = ["Choices"]


class Choices:
    """Steps to do with these instances. in_order: whether they export by cid, as durable ones do."""

    in_order = False
    rng: Random
    models: dict[str, Model]
    feds: dict[str, Federation]
    policies: dict[str, Policy]

    def other(self, name: str) -> str:
        return self.rng.choice([other for other in PEERS if other != name])

    def some_policy(self) -> Policy:
        rng = self.rng
        trusted = frozenset(peer for peer in PEERS if rng.random() < 0.85)
        lineage = frozenset(peer for peer in PEERS if rng.random() < 0.85) if rng.random() < 0.3 else None
        return Policy(trusted, lineage, rng.random() < 0.4)

    def errand(self, name: str) -> Errand:
        lies = self.rng.random() < 0.15
        return Errand(name, frozenset(self.rng.sample(range(len(CIDS)), 2)) if lies else frozenset())

    def some_run(self, name: str) -> Step:
        rng = self.rng
        errand = self.errand(name)
        targets = rng.sample(CIDS, 2) if rng.random() < 0.3 else [rng.choice(CIDS)]
        arguments: dict[str, Any] = {"targets": targets, "errand": errand, "refresh": rng.random() < 0.08}
        if rng.random() < 0.1:
            fails = frozenset(rng.sample(range(len(CIDS)), 3))
            arguments.update(errand=Errand(name, errand.wrong, fails), keep_going=rng.random() < 0.6)
        if rng.random() < 0.15:
            arguments["trusted"] = self.policies[name].trusted
        return Step("run", name, arguments)

    def some_pull(self, name: str) -> Step:
        asked = self.other(name)
        mirror = self.rng.random() < 0.15
        records = self.offer(asked, name, whole=0.8 if mirror else 0.25)
        arguments = {"records": records, "policy": self.policies[name], "asked": asked, "cut": self.cut(records)}
        # A bundle as bytes cannot say of a record that it rests on its own peer.
        wire = self.rng.random() < 0.2 and not any(r.peer in r.lineage for r in records)
        return Step("take", name, {**arguments, "mirror": mirror, "wire": wire})

    def some_withdrawal(self, name: str, derived: bool | None = None) -> Step:
        how = self.rng.random() < 0.5 if derived is None else derived
        return Step("invalidate", name, {"peer": self.rng.choice(PEERS), "derived": how})

    def some_forgetting(self, name: str) -> Step:
        cids = self.rng.sample(CIDS, self.rng.randint(1, 4))
        return Step("forget", name, {"cids": cids, "derived": self.rng.random() < 0.5})

    def some_challenge(self, name: str) -> Step:
        """What came from one peer or from all, or a sample; now and then by a runner that fails, or lies itself."""
        rng = self.rng
        fails = frozenset(rng.sample(range(len(CIDS)), 3)) if rng.random() < 0.2 else frozenset[int]()
        arguments: dict[str, Any] = {"errand": Errand(name, self.errand(name).wrong, fails)}
        arguments["peer"] = rng.choice(PEERS) if rng.random() < 0.5 else None
        arguments["sample"] = rng.randint(1, 8) if rng.random() < 0.4 else None
        arguments |= {"seed": rng.randrange(99), "near_ops": [op for op in OPS if rng.random() < 0.15]}
        return Step("challenge", name, arguments)

    def some_pruning(self, name: str) -> Step:
        rng, held = self.rng, self.models[name].rows
        total = sum(size_of(cid, row.value) for cid, row in held.items())
        most = rng.randrange(total + 9) if rng.random() < 0.5 else rng.randrange(900)
        keep = rng.sample(sorted(held), min(len(held), rng.randrange(4)))
        return Step("prune", name, {"max_bytes": most, "keep": keep})

    def cut(self, records: list[Offered]) -> int | None:
        return self.rng.randint(0, len(records)) if self.rng.random() < 0.08 else None

    def exported(
        self, name: str, cids: list[str] | None = None, trusted: frozenset[str] | None = None
    ) -> list[Offered]:
        """What the instance exports, which is what the model exports."""
        trust = None if trusted is None else trusted.__contains__
        real = list(map(value_for, artdag_fed.export(self.feds[name], name, cids, trusted=trust)))
        want = self.models[name].export(name, cids, trusted)
        if self.in_order and cids is None:
            want.sort()
        if real != want:
            first = [(r, w) for r, w in zip_longest(real, want) if r != w][:1]
            raise Difference(f"{name} exports other records than the model, the first of them: {first}")
        return real

    def offer(self, peer: str, to: str, whole: float = 0.25) -> list[Offered]:
        """What a peer sends, which is what it holds, or some of it, or a lie. whole: how likely it is all."""
        rng = self.rng
        cids = rng.sample(CIDS, rng.randint(1, 12)) if rng.random() >= whole else None
        if peer in self.feds:
            records = self.exported(peer, cids)
        else:
            records = [Offered(cid, rng.randrange(PRIME), peer, frozenset()) for cid in cids or CIDS[::3]]
        if self.policies[to].verify and rng.random() < 0.9:
            records = [r._replace(signer=peer) for r in records]
        if rng.random() < 0.25:
            records = self.tampered(records)
        return records

    def tampered(self, records: list[Offered]) -> list[Offered]:
        rng, done = self.rng, list(records)
        for _ in range(rng.randint(1, 3)):
            if not done:
                break
            at = rng.randrange(len(done))
            r, who = done[at], rng.choice(PEERS)
            lie = wrong_by(r.value, who)
            done[at] = rng.choice(
                (
                    r._replace(value=lie),
                    r._replace(value=lie, signer="stale" if r.signer else ""),
                    r._replace(lineage=frozenset(), signer=r.signer),
                    r._replace(lineage=r.lineage | {who}),
                    r._replace(peer=who),
                    r._replace(peer=who, signer=who),
                    r._replace(signer=who),
                    r._replace(signer=""),
                    r._replace(flaw="corrupt"),
                    r._replace(flaw="recipe"),
                    r._replace(recipe=False),
                )
            )
            if rng.random() < 0.2:
                done.insert(rng.randint(0, len(done)), r)  # two things about one cid
        return done
