"""Share the results of expensive computations between independent instances, by content id, and take trust back.

>>> from artdag_fed import Federation, export, import_, invalidate, node, run
>>> def runner(op, inputs, params):
...     return sum(inputs) + params["n"]
>>> total = node("add@1", node("add@1", n=1), node("add@1", n=2), n=3)
>>> alice = run(Federation(), total, runner).federation
>>> bob = import_(Federation(), export(alice, "alice"), {"alice"}.__contains__)
>>> again = run(bob, total, runner)
>>> again.value, len(again.computed), bob.provenance[total.cid]
(6, 0, 'alice')
>>> len(invalidate(bob, "alice"))
0
"""

from artdag_fed.agreement import quorum
from artdag_fed.audit import Challenge, Conflict, challenge, conflicts
from artdag_fed.bundle import read_bundle, write_bundle
from artdag_fed.cache import Cache, OriginCache
from artdag_fed.caches.disk import DiskCache
from artdag_fed.caches.memory import MemoryCache
from artdag_fed.callables import Fetch, Observe, Runner, Sign, Trust, Verify
from artdag_fed.codec import Codec
from artdag_fed.dag import Dag, Node, node
from artdag_fed.errors import (
    BundleError,
    CodecError,
    FederationError,
    InvalidName,
    RunError,
    StoreError,
    TransportError,
)
from artdag_fed.events import Event, Report
from artdag_fed.explanation import Explanation, explain
from artdag_fed.federation import Federation, Run, export, forget, import_, invalidate, plan, pull, run
from artdag_fed.federation import open as open
from artdag_fed.limits import Limits
from artdag_fed.names import Cid, PeerId
from artdag_fed.observers import Tally, progress
from artdag_fed.ops import Ops
from artdag_fed.planning import Plan
from artdag_fed.pruning import prune
from artdag_fed.record import Bundle, Record
from artdag_fed.signing import hmac_signer, hmac_verifier, raising, verifier
from artdag_fed.transport import first_of, limited, retrying, wanted

__version__ = "0.1.0"

# `open` is not here: `from artdag_fed import *` must not hide the builtin.
__all__ = [
    "Bundle",
    "BundleError",
    "Cache",
    "Challenge",
    "Cid",
    "Codec",
    "CodecError",
    "Conflict",
    "Dag",
    "DiskCache",
    "Event",
    "Explanation",
    "Federation",
    "FederationError",
    "Fetch",
    "InvalidName",
    "Limits",
    "MemoryCache",
    "Node",
    "Observe",
    "Ops",
    "OriginCache",
    "PeerId",
    "Plan",
    "Record",
    "Report",
    "Run",
    "RunError",
    "Runner",
    "Sign",
    "StoreError",
    "Tally",
    "TransportError",
    "Trust",
    "Verify",
    "challenge",
    "conflicts",
    "explain",
    "export",
    "first_of",
    "forget",
    "hmac_signer",
    "hmac_verifier",
    "import_",
    "invalidate",
    "limited",
    "node",
    "plan",
    "progress",
    "prune",
    "pull",
    "quorum",
    "raising",
    "read_bundle",
    "retrying",
    "run",
    "verifier",
    "wanted",
    "write_bundle",
]
