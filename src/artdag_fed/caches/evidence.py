"""How many of the offers that a cache keeps have to go, and whose, when there are too many.

Rules: whoever has most gives up first, so that a flood by one peer pushes out its own offers and no one else's; of
each the oldest go, and first those that agree with all others about their cid. Only offers that arrived count: the one
that was held when another came stays as long as there is one to compare it with, and every arrival brings at most one.

>>> going({"alice": 3, "mallory": 90}, most=60)
{'mallory': 36}
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from artdag_fed.names import PeerId

__all__ = ["going", "lineage_text"]

SLACK = 16  # a sixteenth of the room is made at once, so that a full cache does not look for the oldest at each commit


def going(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """How many offers of each peer go, of those that arrived, so that at most `most` are left; {} where they fit."""
    left = sum(counts.values())
    if left <= most:
        return {}
    room = most - most // SLACK
    share, peers = 0, len(counts)
    for number, count in enumerate(sorted(counts.values())):  # the share that everyone may have, if no one has less
        share = room // (peers - number)
        if count > share:
            break
        room -= count
    return {peer: count - share for peer, count in counts.items() if count > share}


def lineage_text(lineage: frozenset[PeerId]) -> str:
    """A lineage as one text: what origins and offers are told apart and sorted by, on a disk and in memory."""
    return json.dumps(sorted(lineage), ensure_ascii=False)
