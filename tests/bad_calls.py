"""What a test of bad input calls, and what any message has to keep to."""

from __future__ import annotations

from artdag_fed import Record, node

N = node("step@1")
CONTROL, LONG = "a\x1b[31m\r\n\u202eevil", "x" * 10_000


def works(op: str, inputs: object, params: object) -> int:
    return 1


def record(cid: str = "new", peer: str = "bob") -> Record:
    return Record(cid, 1, peer)


def one_line(error: BaseException) -> str:
    """The message, checked to be fit for a terminal and a log."""
    text = str(error)
    assert text.isprintable() and 5 < len(text) < 700, text
    return text
