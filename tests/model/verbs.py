"""The steps of the driver, done with the real verbs: each is a function of an instance and plain data.

Rules: a step is numbers, names and tuples, so that it can be done in another process and be printed. Each function has
the name of the model's method, returns the instance afterwards, and counts what the report says in the model's words.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

import artdag_fed
from artdag_fed import Dag, Federation, FederationError, Record, Report, Runner
from tests.model.road import Offered, Policy
from tests.model.universe import CIDS, INDEX, NODES, SIGNERS, VERIFY, compute, spell, value_of, wrong_by

__all__ = ["NEAR", "Done", "Errand", "Step", "perform", "record_of", "value_for"]

Done = Counter[str] | str
"""What the report says in numbers, or the name of what was raised."""


@dataclass(frozen=True)
class Errand:
    """How a runner computes. liar: who computes the nodes in `wrong` wrong; fails: nodes that it cannot compute."""

    liar: str = "alice"
    wrong: frozenset[int] = frozenset()
    fails: frozenset[int] = frozenset()

    def value(self, n: int, values: tuple[int, ...]) -> int | None:
        if n in self.fails:
            return None
        value = compute(n, values)
        return wrong_by(value, self.liar) if n in self.wrong else value


@dataclass(frozen=True)
class Step:
    """One step: the verb, at which instance, and its arguments."""

    verb: str
    at: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.verb} at {self.at}: {_brief(self.arguments)}"


def _brief(value: Any) -> str:
    """As short as it can be told, and the same under every hash seed: nodes by their numbers."""
    if isinstance(value, Offered):
        more = [word for word, said in (("no recipe", not value.recipe), (value.flaw, value.flaw)) if said]
        more += [f"signed {value.signer}"] if value.signer else []
        resting = f" on {_brief(value.lineage)}" if value.lineage else ""
        return f"<{INDEX[value.cid]}={value.value} by {value.peer}{resting}{''.join(', ' + word for word in more)}>"
    if isinstance(value, Errand):
        return f"runner of {value.liar}, wrong at {_brief(value.wrong)}, failing at {_brief(value.fails)}"
    if isinstance(value, Policy):
        return f"trusting {_brief(value.trusted)} resting on {_brief(value.lineage)}{', verified' * value.verify}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_brief(item)}" for key, item in value.items() if item not in (None, False))
    if isinstance(value, list | tuple | frozenset):
        items = sorted(value) if isinstance(value, frozenset) else value
        return f"[{' '.join(map(_brief, items))}]"
    return str(INDEX.get(value, value))


NEAR: Final = 2
"""What `near` takes for right: so much do some peers' lies differ from the truth, and no others."""


Elsewhere = Callable[[Step], object]
"""Does a step with the same instance in another process."""


class BrokenRoad(OSError):
    """What a fetch raises where an answer is cut."""


def perform(fed: Federation, step: Step, elsewhere: Elsewhere | None = None) -> tuple[Federation, Done]:
    """Do the step with this instance. An error of the library is an answer; then the instance is the one given.

    elsewhere: who does what happens meanwhile; None: this process does.
    """
    arguments = dict(step.arguments)
    if "meanwhile" in arguments and elsewhere is not None:
        arguments["elsewhere"] = elsewhere
    try:
        done: tuple[Federation, Done] = VERBS[step.verb](fed, **arguments)
        return done
    except FederationError as error:
        return fed, type(error).__name__


# --- records on the road ------------------------------------------------------------------------


def record_of(r: Offered) -> Record:
    """The record that the model's one stands for."""
    n = INDEX[r.cid]
    recipe = NODES[(n + 1) % len(NODES)].recipe if r.flaw == "recipe" else NODES[n].recipe if r.recipe else b""
    made = Record(r.cid, spell(n, r.value), r.peer, r.lineage, recipe)
    if r.signer == "stale":
        signature = SIGNERS[r.peer](Record(r.cid, spell(n, r.value + 1), r.peer, r.lineage).statement)
    else:
        signature = SIGNERS[r.signer](made.statement) if r.signer else b""
    if r.flaw == "corrupt":
        digest = Record(r.cid, b"other", r.peer).digest
        return Record.encoded(r.cid, made.payload, digest, r.peer, r.lineage, recipe, signature)
    return Record(r.cid, made.result, r.peer, r.lineage, recipe, signature) if signature else made


def value_for(record: Record) -> Offered:
    """The model's record of a real one that an honest export gave, unsigned."""
    recipe = record.recipe == NODES[INDEX[record.cid]].recipe
    assert recipe or not record.recipe
    return Offered(record.cid, value_of(record.result), record.peer, record.lineage, recipe)


def _answer(records: list[Offered], cut: int | None, wire: bool = False) -> Iterator[Record]:
    """The records; cut: after so many of them the answer breaks off; wire: they come as the bytes of a bundle."""
    made = map(record_of, records)
    if wire:
        stream = io.BytesIO()
        artdag_fed.write_bundle(stream, made)
        if cut is not None:
            stream.truncate(stream.tell() * cut // (len(records) + 1))
        stream.seek(0)
        yield from artdag_fed.read_bundle(stream)
        return
    yield from islice(made, cut)
    if cut is not None:
        raise BrokenRoad("cut")


def _road(records: list[Offered], cut: int | None, _: str) -> Iterator[Record]:
    return _answer(records, cut)


def _counted(report: Report) -> Counter[str]:
    count = Counter(report.rejected)
    count.update(
        admitted=report.admitted, unchanged=report.unchanged, conflicts=report.conflicts, dropped=report.dropped
    )
    count.update({f"rests on {peer}": number for peer, number in report.resting_on.items()})
    if not report.dropped:  # it was a dry run, or nothing went
        count["dropped"] = sum(total.results for total in report.dropping.values())
    return +count


# --- the verbs ----------------------------------------------------------------------------------


def take(
    fed: Federation,
    records: list[Offered],
    policy: Policy,
    asked: str = "",
    mirror: bool = False,
    wire: bool = False,
    cut: int | None = None,
) -> Any:
    trusted_lineage = None if policy.lineage is None else policy.lineage.__contains__
    trusted, verify = policy.trusted.__contains__, VERIFY if policy.verify else None
    more: dict[str, Any] = {"verify": verify, "trusted_lineage": trusted_lineage}
    if not asked:
        fed = artdag_fed.import_(fed, _answer(records, cut, wire), trusted, **more)
    else:
        fed = artdag_fed.pull(fed, lambda _: _answer(records, cut, wire), asked, trusted, mirror=mirror, **more)
    return fed, _counted(fed.report)


def take_agreed(
    fed: Federation,
    answers: dict[str, list[Offered]],
    cuts: dict[str, int],
    k: int,
    policy: Policy,
    asked: str,
    mirror: bool = False,
) -> Any:
    """A pull of what at least `k` agree on. cuts: after how many records an answer breaks off."""
    roads = {peer: partial(_road, records, cuts.get(peer)) for peer, records in answers.items()}
    verify = VERIFY if policy.verify else None
    fetch = artdag_fed.quorum(roads, k, verify=verify)
    lineage = None if policy.lineage is None else policy.lineage.__contains__
    try:
        fed = artdag_fed.pull(
            fed, fetch, asked, policy.trusted.__contains__, verify=verify, trusted_lineage=lineage, mirror=mirror
        )
    except ValueError:
        return fed, "ValueError"
    return fed, _counted(fed.report)


def invalidate(fed: Federation, peer: str, derived: bool, dry_run: bool = False) -> Any:
    fed = artdag_fed.invalidate(fed, peer, derived=derived, dry_run=dry_run)
    return fed, _counted(fed.report)


def forget(fed: Federation, cids: list[str], derived: bool, dry_run: bool = False) -> Any:
    fed = artdag_fed.forget(fed, cids, derived=derived, dry_run=dry_run)
    return fed, _counted(fed.report)


def prune(fed: Federation, max_bytes: int, keep: list[str], dry_run: bool = False) -> Any:
    fed = artdag_fed.prune(fed, max_bytes=max_bytes, keep=keep, dry_run=dry_run)
    return fed, _counted(fed.report)


def runner_of(errand: Errand, before: Callable[[int], object] = lambda n: None) -> Runner:
    """The runner that does the errand; `before` is told of each node."""

    def runner(op: str, inputs: tuple[bytes, ...], params: Mapping[str, Any]) -> bytes:
        n = params["n"]
        before(n)
        value = errand.value(n, tuple(map(value_of, inputs)))
        if value is None:
            raise ValueError("this node fails")
        return spell(n, value)

    return runner


def near(held: bytes, computed: bytes) -> bool:
    """A comparator: what differs by little is right."""
    return abs(value_of(held) - value_of(computed)) <= NEAR


def challenge(
    fed: Federation, errand: Errand, peer: str | None, sample: int | None, seed: int, near_ops: list[str]
) -> Any:
    same = dict.fromkeys(near_ops, near)
    found = artdag_fed.challenge(fed, runner_of(errand), peer=peer, sample=sample, seed=seed, same=same)
    count = Counter(confirmed=len(found.confirmed), refuted=len(found.refuted), unchecked=len(found.unchecked))
    count.update(vindicated=len(found.vindicated), gone=len(found.dropped))
    return found.federation, +count


def run(
    fed: Federation,
    targets: list[str],
    errand: Errand,
    trusted: frozenset[str] | None = None,
    refresh: bool = False,
    keep_going: bool = False,
    meanwhile: tuple[str, bool, list[Offered], Policy] | None = None,
    elsewhere: Elsewhere | None = None,
) -> Any:
    left = [] if meanwhile is None else [meanwhile]

    def before(n: int) -> None:
        if left and CIDS[n] == targets[0]:
            peer, derived, records, policy = left.pop()
            for step in (
                Step("invalidate", "", {"peer": peer, "derived": derived}),
                Step("take", "", {"records": records, "policy": policy}),
            ):
                if elsewhere is None:
                    perform(fed, step)
                else:
                    elsewhere(step)

    dag = Dag(*(NODES[INDEX[cid]] for cid in targets))
    trust = None if trusted is None else trusted.__contains__
    runner = runner_of(errand, before)
    done = artdag_fed.run(fed, dag, runner, trusted=trust, refresh=refresh, keep_going=keep_going)
    count = _counted(done.federation.report)
    count.update(computed=len(done.computed), failed=len(done.failed), skipped=len(done.skipped))
    return done.federation, +count


VERBS: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        "take": take,
        "take_agreed": take_agreed,
        "invalidate": invalidate,
        "forget": forget,
        "prune": prune,
        "challenge": challenge,
        "run": run,
    }
)
