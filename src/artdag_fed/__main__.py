"""The command line: `python -m artdag_fed COMMAND ...`; `--help` says what there is.

Rules: an error is one line on the standard error and an exit code, never a traceback; Ctrl-C and a reader that goes
(`| head`) end it without a word. `python -X dev -m artdag_fed` shows where something unforeseen was raised.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from artdag_fed.callables import said
from artdag_fed.cli_arguments import PROGRAM, arguments
from artdag_fed.cli_commands import COMMANDS
from artdag_fed.cli_output import Complaints, Exit, Output, Usage
from artdag_fed.errors import FederationError, InvalidName
from artdag_fed.names import shown

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Do what `argv` (by default that of the process) asks for; the exit code."""
    with _complaints() as complaints:
        try:
            return _run(sys.argv[1:] if argv is None else argv, complaints)
        except (Usage, InvalidName) as error:
            complaints.say(str(error))
            return Exit.USAGE
        except KeyboardInterrupt:
            return Exit.INTERRUPTED
        except BrokenPipeError:
            return Exit.CLOSED
        except (FederationError, OSError) as error:
            complaints.say(_spelt(error))
            return Exit.FAILED
        except Exception as error:
            if sys.flags.dev_mode:
                raise
            complaints.say(f"unforeseen: {said(error)} (python -X dev -m {PROGRAM} shows where)")
            return Exit.FAILED
        finally:
            _let_go(sys.stdout)


def _run(argv: Sequence[str], complaints: Complaints) -> int:
    try:
        asked = arguments(argv)
    except SystemExit:  # the help was asked for, and is printed
        sys.stdout.flush()
        return Exit.FINE
    if sys.stdout is None:
        raise OSError("there is no standard output")
    code = COMMANDS[asked.command](asked, Output(sys.stdout, asked.json), complaints)
    return Exit.FOUND if code == Exit.FINE and complaints.count else code


def _spelt(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{shown(os.fsdecode(error.filename), 200)}: {error.strerror}"
    return str(error)


@contextlib.contextmanager
def _complaints() -> Iterator[Complaints]:
    """What the library warns of comes out as a line, too, for as long as a command goes on."""
    complaints = Complaints(sys.stderr, PROGRAM)
    log = logging.getLogger(PROGRAM)
    log.addHandler(complaints)
    try:
        yield complaints
    finally:
        log.removeHandler(complaints)


def _let_go(stream: TextIO | None) -> None:
    """Have nothing left to be written when the interpreter ends, which would say that it cannot."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
