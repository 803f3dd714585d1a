"""The arguments of the command line: what each command takes, and what of it can be told to be wrong by looking at it.

Rules: every argument is checked here, before anything is opened; an error is one line, `Usage`. A secret is read from a
file or from the environment; as an argument everyone on the machine could see it.

>>> arguments(["ls", "grace", "--from", "alice"]).peer
'alice'
>>> arguments(["export", "grace", "out.bundle"])
Traceback (most recent call last):
...
artdag_fed.cli_output.Usage: export: the following arguments are required: --as (see export --help)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from artdag_fed.cli_output import Usage
from artdag_fed.errors import InvalidName
from artdag_fed.names import Cid, PeerId, check_cid, check_peer, shown

__all__ = ["PROGRAM", "PULL_TOKEN", "SERVE_TOKEN", "arguments"]

PROGRAM = "artdag_fed"
# Two names: one's own token is not for the peers that one pulls from.
PULL_TOKEN = "ARTDAG_FED_PULL_TOKEN"
SERVE_TOKEN = "ARTDAG_FED_SERVE_TOKEN"

ENDS = """\
exit codes: 0 done; 1 done, and something was refused, left out or found to be wrong; 2 wrong usage, nothing was done;
3 it could not be done, and no result came or went (at most a new instance was made, with nothing in it);
130 Ctrl-C; 141 whoever read the output has gone.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        command = self.prog.removeprefix(f"python -m {PROGRAM}").strip()
        where = f"{command}: " if command else ""
        raise Usage(f"{where}{message} (see {f'{command} ' if command else ''}--help)")


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """What was asked for; `.command` is the command's name, and the rest is its own. Raises `Usage`; `SystemExit` after
    it has printed the help that was asked for."""
    return _parser().parse_args(argv)


def _parser() -> argparse.ArgumentParser:
    from artdag_fed import __version__

    parser = _Parser(
        prog=f"python -m {PROGRAM}",
        description="Results of computations, by content id, shared between instances that are folders on a disk.",
        epilog=ENDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)

    def command(name: str, what: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what, epilog=ENDS, allow_abbrev=False)
        made.add_argument("cache", metavar="CACHE", type=_folder, help="the folder of the instance")
        made.add_argument("--json", action="store_true", help="answer with one JSON document")
        return made

    command("info", "what an instance holds, and from whom")
    _ls(command("ls", "the results that an instance holds"))
    _export(command("export", "write results into a bundle file"))
    _import(command("import", "keep the results in a bundle file that come from trusted peers"))
    _pull(command("pull", "fetch results from a peer's folder or URL, and keep those of trusted peers"))
    made = command("invalidate", "drop everything that came from a peer")
    made.add_argument("peer", metavar="PEER", type=_peer)
    made.add_argument("--derived", action="store_true", help="and all that rests on it, computed here or not")
    made = command("check", "look at every row, digest and file of an instance")
    made.add_argument("--drop", action="store_true", help="drop what fails; what stays is not touched")
    _serve(command("serve", "offer results over HTTP, until Ctrl-C"))
    return parser


def _ls(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--local", action="store_true", help="only what was computed here")
    which.add_argument("--from", dest="peer", metavar="PEER", type=_peer, help="only what came from PEER")
    which.add_argument("--resting-on", metavar="PEER", type=_peer, help="only what came from PEER or rests on it")


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="FILE", help="the file to write, or - for the standard output")
    parser.add_argument(
        "--cid", dest="cids", metavar="CID", type=_cid, action="append", help="only this one; repeatable"
    )
    _offer(parser)


def _import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="FILE", help="the file to read, or - for the standard input")
    _trust(parser)


def _pull(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", type=_peer, help="the peer that is asked")
    parser.add_argument("source", metavar="FROM", help="its URL (http, https), or the folder that it publishes into")
    _trust(parser)
    _token(parser, PULL_TOKEN)
    parser.add_argument("--deadline", metavar="SECONDS", type=_seconds, help="for all of it, from a URL (default: 300)")


def _serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="HOST", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", metavar="PORT", type=_port, default=8000, help="(default: %(default)s; 0: any)")
    _offer(parser)
    _token(parser, SERVE_TOKEN)


def _offer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--as", dest="name", metavar="PEER", type=_peer, required=True, help="in whose name")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--own", action="store_true", help="nothing that came from others, or rests on them")
    which.add_argument(
        "--trust", metavar="PEER", type=_peer, action="append", help="of others, only what is PEER's; repeatable"
    )
    parser.add_argument("--key-file", metavar="FILE", help="sign with the key in FILE (HMAC, 16 bytes or more)")


def _trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust", metavar="PEER", type=_peer, action="append", required=True, help="keep what is PEER's; repeatable"
    )
    parser.add_argument(
        "--key",
        dest="keys",
        metavar="PEER=FILE",
        type=_key,
        action="append",
        help="keep only what is signed, PEER's with the key in FILE; repeatable",
    )


def _token(parser: argparse.ArgumentParser, variable: str) -> None:
    parser.add_argument("--token-file", metavar="FILE", help=f"a file with the bearer token (or set {variable})")


# --- values -----------------------------------------------------------------------------------


def _folder(text: str) -> str:
    if not text:  # as a path it would be the current folder
        raise argparse.ArgumentTypeError("an empty text is no folder")
    return text


def _peer(text: str) -> PeerId:
    return _checked(check_peer, text)


def _cid(text: str) -> Cid:
    return _checked(check_cid, text)


def _checked(check: Callable[[Any], str], text: str) -> str:
    try:
        return check(text)
    except InvalidName as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _key(text: str) -> tuple[PeerId, str]:
    peer, equals, file = text.partition("=")
    if not equals or not file:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not of the form PEER=FILE")
    return _peer(peer), file


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{shown(text)} is no port: expected 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{shown(text)} is no number of seconds above 0")
    return seconds
