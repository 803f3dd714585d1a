"""The random driver: one step after another, done with the real instances and with the model, and compared.

Rules: what happens is decided by a seed and the models alone: no clock, no order of a set. Steps come in episodes, each
with instances of its own and a seed made of the driver's seed and its number, so that a failure is replayed by the one
episode that it happened in. After each step the instance that it touched is compared, now and then all of them, with
everything that is kept beside the results. Peers lie: with wrong results, cut answers, forged and stale signatures,
missing recipes and lineage, two results for one cid.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256
from random import Random
from typing import Any, Final, NamedTuple

import artdag_fed
from artdag_fed import Federation
from artdag_fed.instance import cache_of
from tests.model.choosing import Choices
from tests.model.comparing import Difference, copied, differences, expected, shown
from tests.model.reference import Model
from tests.model.road import conflicts
from tests.model.universe import CIDS, INDEX, INPUTS, INSTANCES, PEERS, digest_of
from tests.model.verbs import Done, Step, perform

__all__ = ["EPISODE", "Driven", "World", "drive"]

EPISODE = 500  # steps with the same instances: by then they have met in every way, and few offers have piled up
ALL_OF_IT = 50  # steps between two comparisons of everything

WEIGHTS: Final[Mapping[str, int]] = {
    "run": 24,
    "pull": 22,
    "import": 7,
    "relay": 6,
    "invalidate": 4,
    "derived": 4,
    "forget": 4,
    "meanwhile": 4,
    "export": 4,
    "quorum": 6,
    "prune": 3,
    "challenge": 5,
    "conflicts": 3,
    "policy": 3,
    "crash": 3,
    "reopen": 1,
}


class Fragile(dict[str, Any]):
    """A plain mapping that breaks once, after so many writes."""

    fuse: int | None = None

    def __setitem__(self, cid: str, result: Any) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self.fuse = None
                raise OSError("this mapping breaks")
        super().__setitem__(cid, result)


class World(Choices):
    """Four instances in memory and their models, and what happens to them."""

    weights: Mapping[str, int] = WEIGHTS

    def __init__(self, seed: str) -> None:
        self.rng = Random(seed)
        self.models = {name: Model(dict(INPUTS)) for name in INSTANCES}
        self.feds = {name: self.opened(name) for name in INSTANCES}
        self.older = dict(self.feds)
        self.policies = {name: self.some_policy() for name in INSTANCES}
        self.doing: object = "the beginning"
        self.counts = Counter[str]()

    def close(self) -> None:
        """Let go of what the instances need."""

    def opened(self, name: str) -> Federation:
        return Federation(Fragile())

    # --- one step ---------------------------------------------------------------------------

    def step(self) -> None:
        """Something happens, and is compared. Raises `Difference`."""
        [action] = self.rng.choices(list(self.weights), list(self.weights.values()))
        name = self.rng.choice(INSTANCES)
        self.doing = f"{action} at {name}"
        self.counts[action] += 1
        getattr(self, f"do_{action}")(name)

    def do(self, step: Step) -> None:
        """Do the step with both, and compare what they say and hold."""
        name = step.at
        self.doing = step
        fed = self.older[name] if self.rng.random() < 0.2 else self.feds[name]
        want = expected(self.models[name], step)
        after, said = self.perform(fed, step)
        if said != want:
            raise Difference(f"it says {shown(said)}, the model {shown(want)}")
        # What an error leaves is known from the cache: the value that was given is older.
        self.feds[name] = self.fresh(after) if isinstance(said, str) else after
        if self.rng.random() < 0.3:
            self.older[name] = self.feds[name]
        self.compare(name)

    def fresh(self, fed: Federation) -> Federation:
        """A value over what its cache keeps now."""
        return Federation(fed.cache)

    def perform(self, fed: Federation, step: Step) -> tuple[Federation, Done]:
        return perform(fed, step)

    def compare(self, name: str, everything: bool = False) -> None:
        """Whether the instance holds what its model holds. Raises `Difference`."""
        wrong = differences(self.feds[name], self.models[name], everything)
        if wrong:
            raise Difference(f"{name} {wrong}")

    def compare_all(self) -> None:
        """Likewise of all instances, with what is kept beside the results."""
        for name in INSTANCES:
            self.compare(name, everything=True)

    def state(self) -> str:
        """What the models hold, as one text."""
        held = [
            [(cid, row.value, row.peer, sorted(row.lineage), row.recipe, row.made) for cid, row in model.rows.items()]
            for model in self.models.values()
        ]
        return repr((held, [len(model.offers) for model in self.models.values()]))

    # --- what happens -----------------------------------------------------------------------

    def do_run(self, name: str) -> None:
        self.do(self.some_run(name))

    def do_meanwhile(self, name: str) -> None:
        """Trust is withdrawn while a run computes from what it was about, and some of it comes again."""
        rng, model = self.rng, self.models[name]
        missing = [cid for cid in CIDS if cid not in model.rows]
        peers = sorted({peer for row in model.rows.values() for peer in row.peers})
        if not missing or not peers:
            self.do_run(name)
            return
        peer = rng.choice(peers)
        again = peer if peer != name and rng.random() < 0.6 else self.other(name)
        records = self.offer(again, name) if rng.random() < 0.8 else []
        meanwhile = peer, rng.random() < 0.5, records, self.policies[name]
        step = Step("run", name, {"targets": [rng.choice(missing)], "errand": self.errand(name)})
        step.arguments["meanwhile"] = meanwhile
        self.do(step)
        self.adopt_order(name)  # what is computed again is committed as it is needed again, in any number of commits

    def do_pull(self, name: str) -> None:
        self.do(self.some_pull(name))

    def do_import(self, name: str) -> None:
        """A bundle of records of several peers, as a folder would hold."""
        first, second = self.rng.sample(PEERS, 2)
        records = self.offer(first, name) + self.offer(second, name)
        self.rng.shuffle(records)
        self.do(Step("take", name, {"records": records, "policy": self.policies[name], "cut": self.cut(records)}))

    def do_relay(self, name: str) -> None:
        """A peer passes on what others have signed."""
        asked = self.other(name)
        records = [r for other in self.rng.sample(INSTANCES, 2) for r in self.offer(other, name)]
        signed = [r._replace(signer=r.signer or r.peer) if self.rng.random() < 0.9 else r for r in records]
        arguments = {"records": signed, "policy": self.policies[name], "asked": asked}
        self.do(Step("take", name, arguments))

    def do_invalidate(self, name: str, derived: bool = False) -> None:
        self.tried(self.some_withdrawal(name, derived))

    def do_derived(self, name: str) -> None:
        self.do_invalidate(name, derived=True)

    def do_forget(self, name: str) -> None:
        self.tried(self.some_forgetting(name))

    def do_prune(self, name: str) -> None:
        self.tried(self.some_pruning(name))

    def do_challenge(self, name: str) -> None:
        self.do(self.some_challenge(name))
        self.adopt_order(name)

    def do_conflicts(self, name: str) -> None:
        """What was offered for the same cid, and differs."""
        told = {
            conflict.cid: {(offer.digest, offer.peer, offer.lineage) for offer in conflict.offers}
            for conflict in artdag_fed.conflicts(self.feds[name])
        }
        want = {
            cid: {(digest_of(cid, value), peer, lineage) for value, peer, lineage in offers}
            for cid, offers in conflicts(self.models[name].offers).items()
        }
        if told != want:
            differ = [INDEX[cid] for cid in sorted(told.keys() | want.keys()) if told.get(cid) != want.get(cid)]
            raise Difference(f"{name} tells of other conflicts than the model at nodes {differ}")

    def adopt_order(self, name: str) -> None:
        """Let the model have stored things in the order in which the instance has, where that is promised by none."""
        model, cache = self.models[name], cache_of(self.feds[name])
        model.rows = {cid: model.rows[cid] for cid, _ in cache.inventory()}

    def do_quorum(self, name: str) -> None:
        """What several peers agree on; some of them break off."""
        rng = self.rng
        peers = rng.sample(PEERS, rng.randint(2, 4))
        answers = {peer: self.offer(peer, name) for peer in peers}
        cuts = {peer: cut for peer, records in answers.items() if (cut := self.cut(records)) is not None}
        arguments = {"answers": answers, "cuts": cuts, "k": rng.randint(1, len(peers)), "asked": rng.choice(peers)}
        arguments |= {"policy": self.policies[name], "mirror": rng.random() < 0.03}
        self.do(Step("take_agreed", name, arguments))

    def do_export(self, name: str) -> None:
        """What is offered, by whom it rests on."""
        rng = self.rng
        cids = rng.sample(CIDS, 12) if rng.random() < 0.5 else None
        self.exported(name, cids, self.policies[name].trusted)

    def do_policy(self, name: str) -> None:
        self.policies[name] = self.some_policy()
        self.doing = f"another policy at {name}"

    def do_crash(self, name: str) -> None:
        """The mapping breaks while it is written: it holds what it held before, or, tried again, what it should."""
        step = self.some_run(name) if self.rng.random() < 0.5 else self.some_pull(name)
        self.doing = f"crash in {step}"
        after = self.model_after(name, step)
        mapping = self.feds[name].cache._mapping  # type: ignore[attr-defined]  # its `Fragile`
        mapping.fuse = self.rng.randrange(6)
        with contextlib.suppress(OSError):
            self.feds[name], _ = self.perform(self.feds[name], step)
        mapping.fuse = None
        self.one_of(name, self.models[name], after)

    def do_reopen(self, name: str) -> None:
        """What is in memory is wrapped anew, with its origins: what was beside the results is gone."""
        fed, model = self.feds[name], self.models[name]
        results = Fragile((cid, fed.cache[cid]) for cid in fed)
        self.feds[name] = self.older[name] = Federation(results, fed.provenance, fed.lineage)
        model.rows = {cid: row._replace(recipe=False, made=None) for cid, row in model.rows.items()}
        model.offers = set()
        self.compare(name)

    def tried(self, step: Step) -> None:
        """Do it, now and then dry before."""
        if self.rng.random() < 0.3:
            self.do(Step(step.verb, step.at, {**step.arguments, "dry_run": True}))
        self.do(step)

    # --- a crash ----------------------------------------------------------------------------

    def model_after(self, name: str, step: Step) -> Model:
        """The model as it would be after the step."""
        after = copied(self.models[name])
        expected(after, step)
        return after

    def one_of(self, name: str, *possible: Model) -> int:
        """Which of these holds what the instance holds; the model does from here on. Raises `Difference`."""
        self.feds[name] = self.older[name] = fresh = self.fresh(self.feds[name])
        wrong = []
        for number, model in enumerate(possible):
            wrong.append(differences(fresh, model, everything=True))
            if not wrong[-1]:
                self.models[name] = model
                return number
        raise Difference(f"{name}: neither before the crash nor after it: " + ", and ".join(wrong))


class Driven(NamedTuple):
    """What came of driving. counts: steps, and actions by kind; differs: what did, and how to replay it, or ""; state:
    a digest of everything that the models hold at the end of each episode, which is the same wherever it is driven."""

    counts: Counter[str]
    differs: str
    state: str


def drive(
    seed: int,
    steps: int,
    make: Callable[[str], World] = World,
    episode: int = 0,
    length: int = EPISODE,
    told: Callable[[int], object] = lambda done: None,
) -> Driven:
    """Do so many steps, beginning with that episode. What is raised in a step, but for a difference, goes through."""
    counts, state = Counter[str](), sha256()
    while counts["steps"] < steps:
        world = make(f"{seed}/{episode}")
        number = 0
        try:
            while number < length and counts["steps"] < steps:
                counts["steps"] += 1
                number += 1
                world.step()
                if number % ALL_OF_IT == 0:
                    world.compare_all()
            world.compare_all()
        except Exception as error:
            replay = f"--seed {seed} --episode {episode} --steps {number}"
            where = f"step {counts['steps']}, {world.doing}"
            if not isinstance(error, Difference):
                error.add_note(f"{where}; once more: {replay}")
                raise
            return Driven(counts + world.counts, f"{where}:\n{error}\nonce more: {replay}", state.hexdigest())
        finally:
            world.close()
        counts += world.counts
        state.update(world.state().encode())
        episode += 1
        told(counts["steps"])
    return Driven(counts, "", state.hexdigest())
