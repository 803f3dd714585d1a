"""An instance that holds something of alice's, and a pull from her that mirrors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from artdag_fed import Federation, Record, import_, pull
from tests.instances import everyone

Fetch = Callable[[str], Any]


def offering(*records: Any) -> Fetch:
    return lambda peer: list(records)


def holding(fed: Federation) -> Federation:
    """c0 computed here, a1 to a3 from alice (a3 resting on carol), b1 from bob (resting on alice)."""
    fed.cache["c0"] = 0
    theirs = [Record(f"a{n}", n, "alice", {"carol"} if n == 3 else ()) for n in (1, 2, 3)]
    return import_(fed, [*theirs, Record("b1", 1, "bob", {"alice"})], everyone)


def mirrored(fed: Federation, fetch: Fetch, **more: Any) -> Federation:
    return pull(fed, fetch, "alice", everyone, mirror=True, **more)


ALL = {"c0", "a1", "a2", "a3", "b1"}
