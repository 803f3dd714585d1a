"""What tests of instances share: the types of their fixtures, whom they trust, and what they can read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from artdag_fed import Federation

Make = Callable[[], Federation]
Again = Callable[[Federation], Federation]


def everyone(peer: str) -> bool:
    return True


def nobody(peer: str) -> bool:
    return False


def held(fed: Federation) -> dict[str, Any]:
    """Everything readable, through the mapping."""
    return {cid: fed.cache[cid] for cid in fed}
