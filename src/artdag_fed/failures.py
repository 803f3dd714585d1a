"""The errors of nodes that have no result: what failed, of what, and what was skipped for it.

Rules: the message names the op, the cid and the params, so that it can be looked up and tried again; the cause is
chained. A skipped node names what failed in the first place. Nothing here decides what happens next.

>>> from artdag_fed.dag import node
>>> str(failed(node("blur@1", radius=3), ValueError("no frame"), "failed")).partition(" (cid ")[0]
"'blur@1' failed: ValueError: no frame"
"""

from __future__ import annotations

from artdag_fed.callables import said
from artdag_fed.dag import Node
from artdag_fed.errors import RunError
from artdag_fed.names import shown

__all__ = ["failed", "skipped"]

BRIEF = 200  # characters of the params: enough to know them by, and a message stays one that is read


def failed(node: Node, error: Exception, what: str) -> RunError:
    """The error of a node that `what` (a verb and its object) befell, from its cause."""
    text = ascii(dict(node.params))
    params = text if len(text) <= BRIEF else text[:BRIEF] + "..."
    failure = RunError(
        f"{shown(node.op)} {what}: {said(error)} (cid {node.cid}, params {params}). "
        "What was finished before it is kept.",
        cid=node.cid,
        op=node.op,
    )
    failure.__cause__ = error
    return failure


def skipped(node: Node, cause: RunError) -> RunError:
    """The error of a node that was not computed, since `cause` befell one that it needs."""
    # What failed in the first place, not what was skipped for it: a long chain would be a long list of causes.
    first = cause.__cause__ if isinstance(cause.__cause__, RunError) else cause
    why = "" if first.__cause__ is None else f": {said(first.__cause__)}"
    failure = RunError(
        f"{shown(node.op)} was skipped (cid {node.cid}), since {shown(first.op)} failed (cid {first.cid}){why}",
        cid=node.cid,
        op=node.op,
    )
    failure.__cause__ = first
    return failure
