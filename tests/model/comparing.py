"""A step done with the model, and an instance held against its model.

Rules: what is said of a difference is short, the same under every hash seed, and names nodes by their numbers.
"""

from __future__ import annotations

import copy
from collections import Counter
from hashlib import sha256
from random import Random
from typing import Any

from artdag_fed import Federation
from artdag_fed.instance import cache_of
from tests.model.reference import Model
from tests.model.road import quorum
from tests.model.universe import CIDS, INDEX, INPUTS, OPS, digest_of, size_of, value_of
from tests.model.verbs import NEAR, Done, Step

__all__ = ["Difference", "copied", "differences", "expected", "shown"]


class Difference(AssertionError):
    """The real instances do not hold what the model holds."""


def expected(model: Model, step: Step) -> Done:
    """Do the step with the model."""
    verb, arguments = step.verb, dict(step.arguments)
    wire = arguments.pop("wire", False)
    if arguments.pop("cut", None) is not None:
        return "BundleError" if wire else "TransportError"
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
    if verb == "challenge":
        sample, seed, near_ops = (arguments.pop(name) for name in ("sample", "seed", "near_ops"))
        peer = arguments["peer"]
        chosen = sorted(cid for cid, row in model.rows.items() if row.peer and peer in (None, row.peer))
        # Which ones a sample is of is written in `challenge`: by `random.Random(seed)`, from the sorted cids.
        arguments["chosen"] = Random(seed).sample(chosen, sample) if sample and sample < len(chosen) else chosen
        ops = {cid: OPS[n % len(OPS)] for n, cid in enumerate(CIDS)}
        arguments["same"] = lambda cid, held, value: ops[cid] in near_ops and abs(held - value) <= NEAR
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


def shown(done: Done) -> str:
    return done if isinstance(done, str) else str(dict(sorted(done.items())))


def differences(fed: Federation, model: Model, everything: bool = False) -> str:
    """What the instance holds and the model does not, or the other way round; "" where they are the same."""
    cache = cache_of(fed)
    rows = model.rows
    loaded = cache.load(rows)
    if len(loaded) != len(rows) or len(cache) != len(rows):
        return f"holds {_numbers(cache)}, the model {_numbers(rows)}"
    for cid, (held, result) in loaded.items():
        row = rows[cid]
        origin = held.origin
        if origin.peer != row.peer or origin.lineage != row.lineage:
            return f"has node {INDEX[cid]} from {origin}, the model from {row.peer} resting on {sorted(row.lineage)}"
        if value_of(result) != row.value:
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


def _numbers(cids: Any) -> list[int]:
    return sorted(INDEX[cid] for cid in cids)


def _some(offers: set[Any]) -> str:
    return "".join(
        f" {INDEX[cid]} by {peer} on {sorted(lineage)}," for cid, _, peer, lineage in sorted(offers, key=str)[:3]
    )
