"""Every seam where the outside world enters, with what absence, failure and repetition mean.

Rules: a plain function is enough for each; nothing here is kept between calls; nothing here runs code of ours.

>>> trusted: Trust = {"alice", "bob"}.__contains__
>>> trusted("mallory")
False
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from artdag_fed.events import Event
from artdag_fed.names import PeerId, one_line, shown
from artdag_fed.record import Record

__all__ = [
    "Fetch",
    "Observe",
    "Runner",
    "Sign",
    "Trust",
    "Verify",
    "asked_once",
    "check_callable",
    "check_flag",
    "said",
]

Runner = Callable[[str, tuple[Any, ...], Mapping[str, Any]], Any]
"""`runner(op, input_results, params) -> result`. What it raises fails its node, never the finished ones; it may be
asked again for a node, after a crash or where a peer was withdrawn meanwhile; it must not change its inputs."""

Trust = Callable[[PeerId], bool]
"""`trusted(peer) -> bool`. Asked once per peer and call. Anything but True or False is a `TypeError`, and what it
raises ends the call; either way nothing is written. Nobody vouching means no: there is no default that trusts."""

Fetch = Callable[[PeerId], Iterable[Record]]
"""`fetch(peer) -> records`. Called positionally, once per pull; keeps no state between calls; what it raises, then or
while it is read, ends that pull and changes nothing. It may carry two attributes: `partial` (true: it leaves things out
by design) and `digests(peer, cids)`; a plain function counts as whole."""

Sign = Callable[[bytes], bytes]
"""`sign(statement) -> signature`. Called once per exported record, when the record is read."""

Verify = Callable[[PeerId, bytes, bytes], bool]
"""`verify(claimed_peer, statement, signature) -> bool`. Asked per record; anything but True, an exception included,
rejects that record and no other."""

Observe = Callable[[Event], None]
"""`observe(event)`. Told what happens as it happens; `events.append` and `print` are ones. A long run tells of its
commits from a thread of its own. What it raises ends the call; what was committed before stays."""


def check_callable(name: str, value: object, *, optional: bool = False) -> None:
    """Raise `TypeError` that names the argument where `value` cannot be called (None passes where `optional`)."""
    if not (callable(value) or (optional and value is None)):
        # A set of names, or a list for events, is what people pass first; a method of it is all that they want.
        method = {"trusted": "__contains__", "trusted_lineage": "__contains__", "observe": "append"}.get(name, "")
        hint = f": pass its .{method}" if not isinstance(value, str) and hasattr(type(value), method) else ""
        raise TypeError(f"{name} must be a callable, not {type(value).__name__}{hint}")


def check_flag(name: str, value: object) -> None:
    """Raise `TypeError` that names the argument unless `value` is True or False: `derived="no"` would be true."""
    if value is not True and value is not False:
        what = shown(value) if isinstance(value, str) else type(value).__name__
        raise TypeError(f"{name} must be True or False, not {what}")


def asked_once(name: str, trust: Trust) -> Trust:
    """`trust`, asked once per peer, and held to True or False (else `TypeError` with `name` and the peer in it)."""
    answers: dict[PeerId, bool] = {}

    def ask(peer: PeerId) -> bool:
        if peer not in answers:
            answer: object = trust(peer)
            if answer is not True and answer is not False:
                kind = type(answer)
                full = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
                what = "None: does it return?" if answer is None else f"{full}: wrap it in bool()"
                raise TypeError(f"{name}({shown(peer)}) must answer True or False, not {what}")
            answers[peer] = answer is True
        return answers[peer]

    return ask


def said(error: BaseException, most: int = 200) -> str:
    """`Type: message` of an exception from outside, on one printable line: what a peer wrote may stand in it.

    >>> said(ValueError("no\\nway"))
    'ValueError: no\\\\nway'
    """
    line = one_line(str(error)[: most + 1])
    return f"{type(error).__name__}{': ' if line else ''}{line if len(line) <= most else line[:most] + '...'}"
