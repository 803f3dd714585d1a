"""Peers of a quorum: what they offer, by which road, and how they fail.

Rules: each other peer is reached in one of two ways, read whole (`read`) or asked for digests (`told`), and the rules
hold in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from artdag_fed import Record, hmac_signer
from artdag_fed.transport import carrying

NAMES = ("alice", "bob", "carol", "dave")
KEYS = {name: name.encode() * 8 for name in NAMES}
Offers = Mapping[str, Any]


def digest(value: object) -> str:
    return Record("c", value, "p").digest


def read(offers: Offers) -> Any:
    """A road that gives records and nothing else."""
    return lambda peer: [Record(cid, value, peer) for cid, value in offers.items()]


def told(offers: Offers) -> Any:
    """A road that can be asked for digests."""

    def digests(peer: str, cids: Iterable[str]) -> dict[str, str]:
        return {cid: digest(offers[cid]) for cid in cids if cid in offers}

    return carrying(read(offers), partial=False, digests=digests)


def signing(offers: Offers) -> Any:
    return lambda peer: [Record(c, v, peer).signed(hmac_signer(KEYS[peer])) for c, v in offers.items()]


def breaking(offers: Offers, error: BaseException) -> Any:
    def fetch(peer: str) -> Iterator[Record]:
        yield from read(offers)(peer)
        raise error

    return fetch


def refusing(error: BaseException) -> Any:
    def fetch(*_: object) -> Any:
        raise error

    return fetch


both_roads = pytest.mark.parametrize("road", [read, told])
