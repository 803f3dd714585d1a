"""Text for people to see, made short and harmless.

Rules: what comes out is one line, at most as wide as asked, printable, and means itself alone: control, bidi and other
invisible characters and heaps of combining marks are spelt as escapes. Only both ends of long text are looked at.
Nothing is escaped for HTML here: who writes a format escapes for it.

>>> fit("studio.a_very_long_name@2", 16), fit("evil\\u202e<b>", 16)
('studio.a_ve…me@2', 'evil\\\\u202e<b>')
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

__all__ = ["count_of", "fit", "most_first", "quoted", "wrapped"]

ELLIPSIS = "…"
MARKS = 2  # combining marks on one letter: what writing needs; more of them climb over the lines above


def count_of(number: int, what: str) -> str:
    """A number with what it counts.

    >>> count_of(1, "result"), count_of(1200, "result")
    ('1 result', '1,200 results')
    """
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def most_first(counted: Mapping[str, int]) -> list[tuple[str, int]]:
    """Names with their counts, the highest first and equal ones by name, so that the same is said every time.

    >>> most_first({"bob": 1, "alice": 1, "carol": 2})
    [('carol', 2), ('alice', 1), ('bob', 1)]
    """
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))


def fit(text: str, most: int) -> str:
    """`text` as one printable line of at most `most` columns; the middle gives way, since versions stand at the end.

    A wide character (CJK, emoji) has two columns.
    """
    whole = len(text) <= most
    head = _printable(text if whole else text[:most])
    if whole and sum(map(_columns, head)) <= most:
        return "".join(head)
    tail = head if whole else _printable(text[-most:])
    room = most // 4
    end = _within(list(reversed(tail)), room)
    start = _within(head, most - 1 - sum(map(_columns, end)))
    return "".join(start) + ELLIPSIS + "".join(reversed(end))


def quoted(name: str, most: int = 24) -> str:
    """A name between quotes, so that it cannot pass as part of the sentence around it.

    >>> quoted("alice', failed: 'x")
    "'alice\\\\', failed: \\\\'x'"
    """
    ends = name if len(name) <= 2 * most else name[:most] + name[-most:]
    return f"'{fit(ends.replace(chr(92), chr(92) * 2).replace(chr(39), chr(92) + chr(39)), most - 2)}'"


def wrapped(text: str, columns: int, lines: int) -> list[str]:
    """`text` broken at spaces into at most `lines` lines of `columns`; what does not fit is cut out of the last one."""
    rest = fit(text, 4 * columns * lines)
    found: list[str] = []
    while len(found) < lines - 1 and sum(map(_columns, rest)) > columns:
        at = rest.rfind(" ", 0, len("".join(_within(list(rest), columns))) + 1)
        if at <= 0:
            break
        found.append(rest[:at])
        rest = rest[at + 1 :]
    return [*found, fit(rest, columns)]


def _printable(text: str) -> list[str]:
    """The characters, each of them printable or spelt as an escape."""
    made: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        harmless = character.isprintable() and marks <= MARKS
        made.append(character if harmless else character.encode("unicode_escape", "surrogatepass").decode())
    return made


def _columns(piece: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in piece)


def _within(pieces: list[str], columns: int) -> list[str]:
    """As many of the pieces, from the first on, as have room."""
    used = 0
    for at, piece in enumerate(pieces):
        used += _columns(piece)
        if used > columns:
            return pieces[:at]
    return pieces
