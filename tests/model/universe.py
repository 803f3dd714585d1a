"""The small world of the driver: four instances, an outsider, one DAG of 36 nodes, and what each of them comes to.

Rules: everything is fixed, so that a step is replayed from numbers alone. A value is an int, and depends on those of
the inputs: what was made from a wrong one is wrong, too. The result that stands for it is bytes, of another size for
each node, two of them so large that a durable cache keeps them in a file.

>>> value_of(spell(7, 41)), wrong_by(41, "carol") != 41
(41, True)
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from artdag_fed import Codec, Node, hmac_signer, hmac_verifier, node

__all__ = [
    "CIDS",
    "INDEX",
    "INPUTS",
    "INSTANCES",
    "NODES",
    "OPS",
    "PEERS",
    "PRIME",
    "SIGNERS",
    "VERIFY",
    "compute",
    "digest_of",
    "size_of",
    "spell",
    "value_of",
    "wrong_by",
]

INSTANCES: Final = ("alice", "bob", "carol", "dave")
PEERS: Final = (*INSTANCES, "mallory")  # who has no instance, and whose records are made up

LAYERS: Final = (8, 8, 8, 7, 5)
OPS: Final = ("sum@1", "mix@1", "cut@1")
LARGE: Final = {11: 40_000, 26: 33_000}  # over what goes into an index row
PRIME: Final = 9973  # values are below it


def _nodes() -> tuple[Node, ...]:
    made: list[Node] = []
    start = 0
    for layer, width in enumerate(LAYERS):
        below = made[start:]
        start = len(made)
        for k in range(width):
            n = len(made)
            inputs = [] if layer == 0 else [below[(k * 3 + j * 5) % len(below)] for j in range(1 + n % 3)]
            if layer > 1 and n % 4 == 0:
                inputs.append(made[n % 8])  # across several layers
            made.append(node(OPS[n % len(OPS)], *dict.fromkeys(inputs), n=n))
    return tuple(made)


NODES: Final = _nodes()
CIDS: Final = tuple(node.cid for node in NODES)
INDEX: Final = MappingProxyType({cid: n for n, cid in enumerate(CIDS)})
INPUTS: Final = MappingProxyType({node.cid: tuple(i.cid for i in node.inputs) for node in NODES})

_KEYS: Final = MappingProxyType({peer: f"the key of {peer}, long enough".encode() for peer in PEERS})
SIGNERS: Final = MappingProxyType({peer: hmac_signer(key) for peer, key in _KEYS.items()})
VERIFY: Final = hmac_verifier(_KEYS)


def compute(n: int, values: tuple[int, ...]) -> int:
    """What node `n` comes to, from the values of its inputs."""
    return (31 * n + 1 + sum((7 + 2 * k) * value for k, value in enumerate(values))) % PRIME


def wrong_by(value: int, peer: str) -> int:
    """What `peer` says instead of `value` where it lies: everyone tells another lie."""
    return (value + 1 + PEERS.index(peer)) % PRIME


def spell(n: int, value: int) -> bytes:
    """The result of node `n` that stands for the value."""
    return b"%d" % value + b"." * LARGE.get(n, 3 * (n % 7))


def value_of(result: bytes) -> int:
    end = result.find(b".")
    return int(result if end < 0 else result[:end])


@lru_cache(maxsize=1 << 17)
def _measured(n: int, value: int) -> tuple[str, int]:
    payload = Codec().encode(spell(n, value))
    return sha256(payload).hexdigest(), len(payload)


def digest_of(cid: str, value: int) -> str:
    return _measured(INDEX[cid], value)[0]


def size_of(cid: str, value: int) -> int:
    """Bytes of the encoded result."""
    return _measured(INDEX[cid], value)[1]
