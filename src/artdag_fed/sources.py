"""Whether a held result was computed by the code that is there now.

Rules: a runner may say what code an op has (`runner.source(op) -> str`, a hash; "" where it is not known); it is asked
once per op and run. A held result of the same op with other code is used all the same, since its cid is what was asked
for; but that is said, once per op and run: an event, and a warning by `logging`. Not by `warnings`: its filters can
make it an error, or drop it where another run has said the like. What came from a peer has no source here.

>>> class Runner:
...     def source(self, op):
...         return "5ca1ab1e"
>>> Sources(Runner(), None)["blur@1"], Sources(print, None)["blur@1"]
('5ca1ab1e', '')
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from artdag_fed.callables import Observe
from artdag_fed.dag import Node
from artdag_fed.events import Event
from artdag_fed.names import Cid, shown

__all__ = ["Sources"]

log = logging.getLogger("artdag_fed")


class Sources(dict[str, str]):
    """By op, the source that a runner has for it: a dict that asks, so that what is known costs next to nothing."""

    def __init__(self, runner: object, observe: Observe | None) -> None:
        super().__init__()
        self._ask: Any = getattr(runner, "source", None)
        self._observe = observe
        self._ops: dict[Cid, str] = {}
        self._told: set[str] = set()

    def __missing__(self, op: str) -> str:
        source = "" if self._ask is None else self._ask(op)
        if type(source) is not str:
            raise TypeError(f"runner.source({shown(op)}) must answer with a str, not {type(source).__name__}")
        self[op] = source
        return source

    def expect(self, nodes: Iterable[Node]) -> None:
        """Note the ops of nodes whose results may be met."""
        if self._ask is not None:
            for node in nodes:
                self._ops[node.cid] = node.op

    def met(self, cid: Cid, held: str) -> None:
        """Compare the source of a held result that is used, and say so where it is another."""
        op = self._ops.get(cid)
        if op is None or op in self._told:
            return
        source = self[op]
        if not source or source == held:
            return
        self._told.add(op)
        log.warning(
            "a held result of %s is used (cid %s), but the code of that op has changed since: for new results give it"
            " another version, or run with refresh=True",
            shown(op),
            cid,
        )
        if self._observe is not None:
            self._observe(Event("resourced", cid=cid, op=op, held=held, offered=source))
