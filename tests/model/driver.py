"""The random driver: one step after another, done with the real instances and with the model, and compared.

Rules: what happens is decided by a seed and the models alone: no clock, no order of a set. Steps come in episodes, each
with instances of its own and a seed made of the driver's seed and its number, so that a failure is replayed by the one
episode that it happened in. After each step the instance that it touched is compared, now and then all of them, with
everything that is kept beside the results. Peers lie: with wrong results, cut answers, forged and stale signatures,
missing recipes and lineage, two results for one cid.
"""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256
from itertools import zip_longest
from random import Random
from typing import Any, Final, NamedTuple

import artdag_fed
from artdag_fed import Federation
from tests.model.reference import Model
from tests.model.road import Offered, Policy, quorum
from tests.model.universe import CIDS, INDEX, INPUTS, INSTANCES, PEERS, PRIME, digest_of, size_of, wrong_by
from tests.model.verbs import Done, Errand, Step, perform, value_for

__all__ = ["EPISODE", "Difference", "Driven", "World", "drive"]

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
    "policy": 3,
    "crash": 3,
    "reopen": 1,
}


class Difference(AssertionError):
    """The real instances do not hold what the model holds."""


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


def expected(model: Model, step: Step) -> Done:
    """Do the step with the model."""
    verb, arguments = step.verb, dict(step.arguments)
    if arguments.pop("cut", None) is not None:
        return "TransportError"
    if arguments.pop("dry_run", False):
        model = copied(model)
    if verb == "take_agreed":
        answers, cuts, k = (arguments.pop(name) for name in ("answers", "cuts", "k"))
        if arguments["mirror"]:
            return "ValueError"
        if arguments["asked"] in cuts:
            return "TransportError"
        heard = {peer: records for peer, records in answers.items() if peer not in cuts}
        arguments["records"] = quorum(heard, arguments["asked"], k, arguments["policy"].verify)
        verb = "take"
    if "errand" in arguments:
        errand = arguments.pop("errand")
        arguments["compute"] = lambda cid, values: errand.value(INDEX[cid], values)
    if verb == "prune":
        arguments["size"] = size_of
    count: Counter[str] = getattr(model, verb)(**arguments)
    if verb == "run" and count["failed"] and not step.arguments.get("keep_going"):
        return "RunError"
    return +count


def copied(model: Model) -> Model:
    """Another one that holds the same."""
    other = copy.copy(model)
    other.rows, other.offers = dict(model.rows), set(model.offers)
    return other


class World:
    """Four instances in memory and their models, and what happens to them."""

    in_order = False
    weights: Mapping[str, int] = WEIGHTS

    def __init__(self, seed: str) -> None:
        self.rng = Random(seed)
        self.models = {name: Model(dict(INPUTS), self.in_order) for name in INSTANCES}
        self.feds = {name: self.opened(name) for name in INSTANCES}
        self.older = dict(self.feds)
        self.policies = {name: self.some_policy() for name in INSTANCES}
        self.trace: list[str] = []
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
        self.trace.append(f"{action} at {name}")
        self.counts[action] += 1
        getattr(self, f"do_{action}")(name)

    def do(self, step: Step) -> None:
        """Do the step with both, and compare what they say and hold."""
        name = step.at
        self.trace[-1] = str(step)
        fed = self.older[name] if self.rng.random() < 0.2 else self.feds[name]
        want = expected(self.models[name], step)
        after, said = self.perform(fed, step)
        if said != want:
            raise Difference(f"it says {_shown(said)}, the model {_shown(want)}")
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
        # What is computed again is committed as it is needed again: in how many commits, and which order, is free.
        cache: Any = self.feds[name].cache
        model.rows = {cid: model.rows[cid] for cid, _ in cache.inventory()}

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
        cids = self.rng.sample(CIDS, self.rng.randint(1, 4))
        self.tried(Step("forget", name, {"cids": cids, "derived": self.rng.random() < 0.5}))

    def do_prune(self, name: str) -> None:
        self.tried(self.some_pruning(name))

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
        self.trace[-1] = f"another policy at {name}"

    def do_crash(self, name: str) -> None:
        """The mapping breaks while it is written: it holds what it held before, or, tried again, what it should."""
        step = self.some_run(name) if self.rng.random() < 0.5 else self.some_pull(name)
        self.trace[-1] = f"crash in {step}"
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

    # --- a crash ----------------------------------------------------------------------------

    def model_after(self, name: str, step: Step) -> Model:
        """The model as it would be after the step."""
        after = copied(self.models[name])
        expected(after, step)
        return after

    def one_of(self, name: str, *possible: Model) -> None:
        """The instance holds what one of these holds; so does the model from here on. Raises `Difference`."""
        self.feds[name] = self.older[name] = fresh = self.fresh(self.feds[name])
        wrong = []
        for model in possible:
            wrong.append(differences(fresh, model, everything=True))
            if not wrong[-1]:
                self.models[name] = model
                return
        raise Difference(f"{name}: neither before the crash nor after it: " + ", and ".join(wrong))

    # --- what is chosen ---------------------------------------------------------------------

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
        return Step("take", name, {**arguments, "mirror": mirror})

    def some_withdrawal(self, name: str, derived: bool = False) -> Step:
        return Step("invalidate", name, {"peer": self.rng.choice(PEERS), "derived": derived})

    def some_pruning(self, name: str) -> Step:
        rng, held = self.rng, self.models[name].rows
        total = sum(size_of(cid, row.value) for cid, row in held.items())
        most = rng.randrange(total + 9) if rng.random() < 0.5 else rng.randrange(900)
        keep = rng.sample(sorted(held), min(len(held), rng.randrange(4)))
        return Step("prune", name, {"max_bytes": most, "keep": keep})

    def tried(self, step: Step) -> None:
        """Do it, now and then dry before."""
        if self.rng.random() < 0.3:
            self.do(Step(step.verb, step.at, {**step.arguments, "dry_run": True}))
        self.do(step)

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


def differences(fed: Federation, model: Model, everything: bool = False) -> str:
    """What the instance holds and the model does not, or the other way round; "" where they are the same."""
    cache: Any = fed.cache
    rows = model.rows
    loaded = cache.load(rows)
    if len(loaded) != len(rows) or len(cache) != len(rows):
        return f"holds {_numbers(cache)}, the model {_numbers(rows)}"
    for cid, (held, result) in loaded.items():
        row = rows[cid]
        origin = held.origin
        if origin.peer != row.peer or origin.lineage != row.lineage:
            return f"has node {INDEX[cid]} from {origin}, the model from {row.peer} resting on {sorted(row.lineage)}"
        if int(result.rstrip(b".")) != row.value:
            return f"has {result[:8]!r} for node {INDEX[cid]}, the model {row.value}"
    if not everything:
        return ""
    views = dict(fed.provenance), dict(fed.lineage)
    if views != (
        {cid: row.peer for cid, row in rows.items() if row.peer is not None},
        {cid: row.lineage for cid, row in rows.items() if row.lineage},
    ):
        return "shows other provenance or lineage than it keeps"
    inventory = dict(cache.inventory())
    if list(inventory) != list(rows):
        return f"has stored {[INDEX[cid] for cid in inventory]} in this order, the model {[INDEX[cid] for cid in rows]}"
    for cid, made in inventory.items():
        row = rows[cid]
        inputs = () if row.made is None else zip(INPUTS[cid], row.made, strict=True)
        of = "" if row.made is None else sha256("".join(digest_of(i, v) for i, v in inputs).encode()).hexdigest()
        if (made.digest, made.inputs_digest, bool(made.recipe)) != (digest_of(cid, row.value), of, row.recipe):
            return f"remembers node {INDEX[cid]} as {made}, the model as {row}"
    offers = {(o.cid, o.digest, o.peer, o.lineage) for o in cache.offers()}
    want = {(cid, digest_of(cid, value), peer, lineage) for cid, value, peer, lineage in model.offers}
    if offers != want:
        more, less = offers - want, want - offers
        return f"keeps {len(more)} offers that the model does not {_some(more)}, and lacks {len(less)} {_some(less)}"
    return ""


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
            where = f"step {counts['steps']}, {world.trace[-1]}"
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


def _shown(done: Done) -> str:
    return done if isinstance(done, str) else str(dict(sorted(done.items())))


def _numbers(cids: Any) -> list[int]:
    return sorted(INDEX[cid] for cid in cids)


def _some(offers: set[Any]) -> str:
    return "".join(
        f" {INDEX[cid]} by {peer} on {sorted(lineage)}," for cid, _, peer, lineage in sorted(offers, key=str)[:3]
    )
