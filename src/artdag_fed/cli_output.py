"""What the command line says, and how it ends.

Rules: an answer goes to the standard output, as lines for people or as one JSON document; what went wrong goes to the
standard error, a line each. Everything written is ASCII but for what the shell itself was given: names that came from
others are spelt as `names.shown` spells them, so none can reach the terminal as it is. A listing is written as it
comes, in no more memory than one of its items takes.

>>> import sys
>>> output = Output(sys.stdout, as_json=True)
>>> output.begin("results"); output.item({"cid": "c1"}, "c1"); output.done({"count": 1})
{"results": [
{"cid": "c1"}
], "count": 1}
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import TextIO

from artdag_fed.cache import Origin
from artdag_fed.errors import FederationError
from artdag_fed.names import one_line, shown

__all__ = [
    "Complaints",
    "Exit",
    "Output",
    "Usage",
    "few_of",
    "names",
    "naming",
    "whence",
]

NAMES = 3  # of several that are told to people; JSON has all


class Exit(IntEnum):
    """How a command ends. They are documented in `docs/guide.md`."""

    FINE = 0
    FOUND = 1  # it was done, and something was refused, left out or found to be wrong
    USAGE = 2  # what was asked for makes no sense, and nothing was done; the code that argparse has for it, too
    FAILED = 3  # it could not be done, and no result came or went; a new instance may be there, with nothing in it
    INTERRUPTED = 130  # Ctrl-C: 128 and the number of the signal, as a shell says it
    CLOSED = 141  # whoever read the output has gone, as `head` does


class Usage(Exception):
    """What was asked for makes no sense. One line for people."""


class Output:
    """Where an answer is written: for people as lines of text, or `as_json` as one document."""

    def __init__(self, stream: TextIO, as_json: bool) -> None:
        self._stream = stream
        self._json = as_json
        self._items = -1

    def begin(self, key: str) -> None:
        """A listing comes, under this name in the document."""
        self._items = 0
        if self._json:
            self._write(f'{{"{key}": [')

    def item(self, value: Mapping[str, object], text: str) -> None:
        """One item of it: for the document, and for people."""
        if self._json:
            self._write(("," if self._items else "") + "\n" + json.dumps(value))
        else:
            self._write(text + "\n")
        self._items += 1

    def done(self, fields: Mapping[str, object], *lines: str) -> None:
        """The rest of the answer, which has at least one field."""
        if self._json:
            text = json.dumps(fields)
            self._write((text if self._items < 0 else "\n], " + text[1:]) + "\n")
        else:
            self._write("".join(line + "\n" for line in lines))
        with naming("the standard output"):
            self._stream.flush()

    def _write(self, text: str) -> None:
        with naming("the standard output"):
            self._stream.write(text)


class Complaints(logging.Handler):
    """Writes what goes wrong to `stream`, each as one line; the library's own warnings as well. `count`: how many."""

    def __init__(self, stream: TextIO | None, program: str) -> None:
        super().__init__(logging.WARNING)
        self._out = stream  # None where the standard error was closed: then nobody wants to know
        self._program = program
        self.count = 0

    def say(self, text: str) -> None:
        if self._out is not None:
            with suppress(OSError):  # there is no other place to say so
                self._out.write(f"{self._program}: {one_line(text)}\n")
                self._out.flush()

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        error = record.exc_info[1] if record.exc_info else None
        why = "" if error is None else f": {type(error).__name__}: {error}"
        self.say(record.getMessage() + why)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """An `OSError` of the system says what it was that could not be written."""
    try:
        yield
    except (FederationError, BrokenPipeError):
        raise
    except OSError as error:
        raise OSError(f"{what} cannot be written: {error.strerror or error}") from error


def names(of: Collection[str]) -> str:
    """Some of these names, for people, in the order of names.

    >>> names({"alice", "bob", "carol", "dora"})
    "'alice', 'bob', 'carol' and 1 more"
    """
    return few_of(sorted(of))


def few_of(of: Sequence[str]) -> str:
    """The first of these names, for people."""
    few = ", ".join(shown(name) for name in of[:NAMES])
    return few if len(of) <= NAMES else f"{few} and {len(of) - NAMES} more"


def whence(origin: Origin) -> str:
    """Where a result came from, for people.

    >>> whence(Origin("bob", frozenset({"carol"})))
    "from 'bob', resting on 'carol'"
    """
    first = "computed here" if origin.peer is None else f"from {shown(origin.peer)}"
    return f"{first}, resting on {names(origin.lineage)}" if origin.lineage else first
