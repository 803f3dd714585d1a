"""Everything that shows itself, made of a name that may be hostile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from artdag_fed import Dag, Federation, Record, Report, explain, import_, node, plan, run
from tests.instances import everyone, nobody


def named(name: str) -> tuple[Any, ...]:
    """A DAG, plans, a run, an instance, an explanation and a report, with `name` wherever a name may stand."""
    name = name.replace("\ud800", "")  # which is no name
    peer = "".join(c for c in name if c.isprintable() and c != "\u0300").strip()[:60]

    def failing(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> int:
        raise ValueError(name)

    source = node(name, **{name: name})
    top = node(name, source, other=name)
    fed = import_(Federation(), [Record(node("a@1").cid, 1, peer)], everyone)
    dag = Dag(node(name, source, node("a@1")), top)
    return (
        dag,
        plan(fed, dag),
        plan(fed, dag, trusted=nobody),
        run(fed, dag, failing, keep_going=True),
        fed,
        explain(fed, top),
        Report(rejected={"untrusted": 1}, resting_on={peer: 1}, examples={"untrusted": (name,)}),
    )
