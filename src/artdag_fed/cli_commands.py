"""The commands: each opens what it was asked to, calls the library, says what came of it, and how it ends.

Rules: a command decides nothing that the library decides; it is a verb with its arguments from a shell. Each is
`command(arguments, output, complaints) -> Exit` and raises what the library raises, which `__main__` turns into a line
and an exit code.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import shlex
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Final

from artdag_fed.bundle import read_bundle, write_bundle
from artdag_fed.cache import Origin
from artdag_fed.caches.disk_check import Fault, check_folder
from artdag_fed.callables import Fetch, Sign, Trust, Verify
from artdag_fed.cli_arguments import PULL_TOKEN, SERVE_TOKEN
from artdag_fed.cli_files import key_in, opened, reading, token_in, writing
from artdag_fed.cli_output import Complaints, Exit, Output, Usage, few_of, names, whence
from artdag_fed.dag import parse_recipe
from artdag_fed.drawing_words import count_of, most_first
from artdag_fed.errors import CodecError, TransportError
from artdag_fed.events import Report, Total
from artdag_fed.federation import export, import_, invalidate, pull
from artdag_fed.instance import by_peer, cache_of
from artdag_fed.names import is_cid, shown
from artdag_fed.record import Record
from artdag_fed.signing import hmac_signer, hmac_verifier

__all__ = ["COMMANDS", "Command"]

Command = Callable[[Namespace, Output, Complaints], Exit]

PEERS = 20  # that `info` tells people of; JSON has all


# --- looking ----------------------------------------------------------------------------------


def info(asked: Namespace, output: Output, complaints: Complaints) -> Exit:
    with opened(asked.cache) as (fed, _):
        origins = cache_of(fed).origins()
    results, size, seconds = Total.of(origins.values())
    peers = {peer: total.results for peer, total in by_peer(origins.items()).items() if peer is not None}
    resting = Counter[str]()
    for origin, total in origins.items():
        resting.update(dict.fromkeys(origin.lineage, total.results))
    lines = [
        f"{shown(asked.cache, 200)}: {count_of(results, 'result')}, {size:,} bytes, {seconds:,.1f} s to compute",
        f"  {results - sum(peers.values()):,} computed here",
    ]
    for counted, what in ((peers, "from"), (resting, "resting on")):
        lines += [f"  {number:,} {what} {shown(peer)}" for peer, number in most_first(counted)[:PEERS]]
        if len(counted) > PEERS:
            lines.append(f"  and more {what} {count_of(len(counted) - PEERS, 'other peer')}")
    listed = [{**_origin(origin), **total._asdict()} for origin, total in origins.items()]
    output.done(
        {"cache": asked.cache, "results": results, "bytes": size, "seconds": seconds, "origins": listed}, *lines
    )
    return Exit.FINE


def ls(asked: Namespace, output: Output, complaints: Complaints) -> Exit:
    count = 0
    with opened(asked.cache) as (fed, _):
        output.begin("results")
        for cid, made in cache_of(fed).inventory():
            if not _wanted(asked, made.origin):
                continue
            count += 1
            op = _op(made.recipe)
            value = {"cid": cid, **_origin(made.origin), "op": op, "digest": made.digest}
            value |= {"bytes": made.size, "seconds": made.seconds}
            name = "-" if op is None else shown(op)[1:-1]
            output.item(value, f"{_cid(cid)}  {made.size:,} bytes  {name}  {whence(made.origin)}")
    output.done({"count": count})
    return Exit.FINE


def _wanted(asked: Namespace, origin: Origin) -> bool:
    if asked.local:
        return origin.local
    if asked.peer is not None:
        return bool(origin.peer == asked.peer)
    return asked.resting_on is None or asked.resting_on in origin.peers


def check(asked: Namespace, output: Output, complaints: Complaints) -> Exit:
    dropped = 0

    def found(fault: Fault) -> None:
        nonlocal dropped
        dropped += fault.dropped
        done = " (dropped)" if fault.dropped else ""
        output.item(fault._asdict(), f"{fault.kind:8}  {_cid(fault.what)}  {fault.why}{done}")

    with opened(asked.cache):  # it is one
        pass
    output.begin("faults")
    checked = check_folder(asked.cache, found=found, mend=asked.drop)
    looked = f"{count_of(checked.results, 'result')}, {checked.bytes:,} bytes, {count_of(checked.files, 'file')}"
    output.done(
        {"cache": asked.cache, **checked._asdict(), "dropped": dropped},
        f"{shown(asked.cache, 200)}: {looked}: {count_of(checked.found, 'fault')}",
    )
    if not checked.found:
        return Exit.FINE
    left = checked.found - dropped
    hint = "" if asked.drop else "; --drop drops what fails"
    complaints.say(f"{count_of(checked.found, 'fault')} found in {shown(asked.cache, 200)}, {left:,} left{hint}")
    return Exit.FOUND


# --- sharing ----------------------------------------------------------------------------------


def export_(asked: Namespace, output: Output, complaints: Complaints) -> Exit:
    if asked.bundle == "-" and asked.json:
        raise Usage("export: a bundle and JSON cannot both go to the standard output: name a file")
    sign = _sign(asked)
    with opened(asked.cache) as (fed, _):
        bundle = export(fed, asked.name, asked.cids, trusted=_offered(asked), sign=sign)
        missing = [cid for cid in dict.fromkeys(asked.cids or ()) if cid not in fed]
        with writing(asked.bundle) as file:
            records = write_bundle(file, bundle)
    if asked.bundle != "-":
        output.done(
            {"cache": asked.cache, "bundle": asked.bundle, "peer": asked.name, "records": records, "missing": missing},
            f"{count_of(records, 'record')} of {shown(asked.name)} written to {shown(asked.bundle, 200)}",
        )
    if missing:
        complaints.say(f"{count_of(len(missing), 'result')} not held, and left out: {names(missing)}")
    return Exit.FOUND if missing else Exit.FINE


def import_bundle(asked: Namespace, output: Output, complaints: Complaints) -> Exit:
    verify = _verify(asked)
    with reading(asked.bundle) as file:
        records = _begun(read_bundle(file))
        with opened(asked.cache, make=True) as (fed, new):
            report = import_(fed, records, _trusts(asked.trust), verify=verify).report
    return _imported(asked, report, new, output, complaints)


def pull_(asked: Namespace, output: Output, complaints: Complaints) -> Exit:
    verify = _verify(asked)
    try:
        records = _begun(_fetch(asked)(asked.peer))
    except TransportError as error:
        raise TransportError(f"{error}{_hint(asked)}") from error
    with opened(asked.cache, make=True) as (fed, new):
        report = pull(fed, lambda _: records, asked.peer, _trusts(asked.trust), verify=verify).report
    return _imported(asked, report, new, output, complaints)


def _begun(records: Iterable[Record]) -> Iterator[Record]:
    """The same records, of which the first has come: what is no bundle, or cannot be reached, makes no instance."""
    more = iter(records)
    return chain(list(islice(more, 1)), more)


def _imported(asked: Namespace, report: Report, new: bool, output: Output, complaints: Complaints) -> Exit:
    where = f"{shown(asked.cache, 200)}{', a new instance' if new else ''}"
    output.done(
        {
            "cache": asked.cache,
            "new": new,
            "admitted": report.admitted,
            "unchanged": report.unchanged,
            "conflicts": report.conflicts,
            "rejected": dict(report.rejected),
            "examples": {reason: list(cids) for reason, cids in report.examples.items()},
            "resting_on": dict(report.resting_on),
        },
        f"{count_of(report.admitted, 'result')} kept in {where}; {report.unchanged:,} held already",
        *(f"  {results:,} resting on {shown(peer)}" for peer, results in most_first(report.resting_on)[:PEERS]),
    )
    if report.rejected:
        reasons = (f"{n:,} {reason} ({_examples(report, reason)})" for reason, n in sorted(report.rejected.items()))
        refused = sum(report.rejected.values())
        complaints.say(f"{count_of(refused, 'record')} refused: {', '.join(reasons)}")
    if report.conflicts:
        complaints.say(f"{count_of(report.conflicts, 'record')} not kept: another result is held, and stays")
    return Exit.FOUND if report.rejected or report.conflicts else Exit.FINE


def _examples(report: Report, reason: str) -> str:
    cids = report.examples[reason]
    return ", ".join(map(_cid, cids)) + (", ..." if report.rejected[reason] > len(cids) else "")


def invalidate_(asked: Namespace, output: Output, complaints: Complaints) -> Exit:
    with opened(asked.cache) as (fed, _):
        report = invalidate(fed, asked.peer, derived=asked.derived).report
        while cache_of(fed).purge():  # off the disk, too
            pass
        peers = Counter[str]()
        for origin, total in cache_of(fed).origins().items():
            peers.update(dict.fromkeys(origin.peers, total.results))
    left, listed = report.resting_on[asked.peer], [peer for peer, _ in most_first(peers)]
    what = "from or resting on" if asked.derived else "from"
    line = f"{count_of(report.dropped, 'result')} {what} {shown(asked.peer)} dropped; {left:,} that rest on it stay"
    if not report.dropped and not left:  # revoked before, which is no failure, or a name with a typo in it
        there = f"its peers are {few_of(listed)}" if listed else "it has nothing of any peer's"
        line = f"nothing in {shown(asked.cache, 200)} is from or rests on {shown(asked.peer)}; {there}"
    output.done(
        {"cache": asked.cache, "peer": asked.peer, "dropped": report.dropped, "resting_on": left, "peers": listed},
        line,
    )
    return Exit.FINE


def serve(asked: Namespace, output: Output, complaints: Complaints) -> Exit:
    from artdag_fed.transports import http
    from artdag_fed.transports.http_listener import Listener, for_this_machine, stays_here
    from artdag_fed.transports.http_wire import PAGE_PATH

    token, sign = token_in(asked.token_file, SERVE_TOKEN), _sign(asked)
    if token is None and not stays_here(asked.host):
        raise Usage(
            f"serve: {shown(asked.host)} is reached from elsewhere, so a token is needed: --token-file or {SERVE_TOKEN}"
        )

    with opened(asked.cache) as (fed, _):
        application = http.app(fed, asked.name, trusted=_offered(asked), sign=sign, authorize=_authorizing(token))
        if token is None:  # then a website that is open in a browser here must not be everyone on this machine
            application = for_this_machine(application)
        with Listener(application, asked.host, asked.port) as listener:
            who = "whoever has the token" if token is not None else "everyone on this machine"
            output.done(
                {
                    "cache": asked.cache,
                    "peer": asked.name,
                    "url": listener.url,
                    "page": listener.url + PAGE_PATH,
                    "token": token is not None,
                },
                f"serving {shown(asked.cache, 200)} as {shown(asked.name)} at {listener.url} to {who}; Ctrl-C ends it",
                f"a page about it: {listener.url}{PAGE_PATH}",
            )
            with contextlib.suppress(KeyboardInterrupt):  # which is how it is meant to end
                listener.serve_forever()
    return Exit.FINE


# --- what they share --------------------------------------------------------------------------


def _fetch(asked: Namespace) -> Fetch:
    if "://" in asked.source:
        from artdag_fed.transports import http

        token = token_in(asked.token_file, PULL_TOKEN)
        tokens = {} if token is None else {asked.peer: token}
        deadline = http.DEADLINE if asked.deadline is None else asked.deadline
        try:
            return http.fetcher({asked.peer: asked.source}, tokens=tokens, deadline=deadline)
        except ValueError as error:  # about what was asked for, and not about what was found
            raise Usage(str(error)) from error
    if asked.token_file is not None or asked.deadline is not None:
        raise Usage(
            f"pull: {shown(asked.source)} is a folder, which takes no --token-file and no --deadline{_hint(asked)}"
        )
    from artdag_fed.transports import folder

    return folder.fetcher({asked.peer: asked.source})


def _hint(asked: Namespace) -> str:
    """What else may have been meant, where no folder that someone published into was named."""
    from artdag_fed.transports.folder_layout import MANIFEST

    if "://" in asked.source or os.path.lexists(os.path.join(asked.source, MANIFEST)):
        return ""
    if "://" in asked.peer:  # which may be a name, so it is no reason to refuse
        meant = shlex.join(("pull", asked.cache, asked.source, asked.peer))
        return f"; the peer comes first, then where it is: {meant}"
    return "" if os.path.lexists(asked.source) else "; a URL begins with http:// or https://"


def _authorizing(token: str | None) -> Callable[[str | None], bool] | None:
    """None where everyone may come, so that the page does not ask for a token."""
    return None if token is None else lambda offered: offered is not None and hmac.compare_digest(offered, token)


def _sign(asked: Namespace) -> Sign | None:
    return None if asked.key_file is None else hmac_signer(key_in(asked.key_file))


def _verify(asked: Namespace) -> Verify | None:
    return None if asked.keys is None else hmac_verifier({peer: key_in(file) for peer, file in asked.keys})


def _trusts(peers: list[str]) -> Trust:
    return frozenset(peers).__contains__


def _offered(asked: Namespace) -> Trust | None:
    if asked.own:
        return _trusts([])
    return None if asked.trust is None else _trusts(asked.trust)


def _origin(origin: Origin) -> Mapping[str, object]:
    return {"peer": origin.peer, "lineage": sorted(origin.lineage)}


def _op(recipe: bytes) -> str | None:
    try:
        return parse_recipe(recipe)[0] if recipe else None
    except CodecError:  # another system's
        return None


def _cid(cid: str) -> str:
    return cid if is_cid(cid) else shown(cid)


COMMANDS: Final[Mapping[str, Command]] = {
    "info": info,
    "ls": ls,
    "export": export_,
    "import": import_bundle,
    "pull": pull_,
    "invalidate": invalidate_,
    "check": check,
    "serve": serve,
}
