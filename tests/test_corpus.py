"""Bad inputs as data, one folder each with what must happen: `corpus/README.md` has the format.

Rules: a case is data alone, so that another implementation can use it; this driver maps its action to a call, and knows
nothing of any single case. What is imported goes into an instance in memory and into one on disk, and an input that is
refused must leave both as they were.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import artdag_fed
from artdag_fed import Codec, Federation, FederationError, Limits, Record, import_, node, pull, run
from artdag_fed.bundle import read_bundle
from artdag_fed.dag import parse_recipe
from artdag_fed.signing import hmac_verifier
from artdag_fed.transports import folder, http
from tests.http_servers import Told, answering
from tests.test_ids import typed_value

TESTS = Path(__file__).resolve().parent
CASES = {path.parent.name: json.loads(path.read_bytes()) for path in sorted((TESTS / "corpus").glob("*/case.json"))}
AREAS = {"record", "bundle", "codec", "dag", "cache", "transport", "callable"}
Case = Mapping[str, Any]
Outcome = dict[str, Any]


# --- data to what it stands for -------------------------------------------------------------


def octets(given: Any) -> bytes:
    """Bytes: parts one behind the other; or text in UTF-8, hex, a file, some bytes repeated; some of them replaced."""
    if isinstance(given, list):
        return b"".join(map(octets, given))
    if "file" in given:
        data = bytearray((TESTS / given["file"]).read_bytes())
    elif "repeat" in given:
        data = bytearray(octets(given["repeat"]) * given["times"])
    else:
        data = bytearray(given["text"].encode() if "text" in given else bytes.fromhex(given["hex"]))
    for at, patch in given.get("patch", ()):
        data[at : at + len(patch) // 2] = bytes.fromhex(patch)
    return bytes(data)


def record(given: Case) -> Record:
    """A record as it came from outside; what is not given is what is usual."""
    payload = octets(given["payload"]) if "payload" in given else Codec().encode(given.get("result"))
    digest = given.get("digest", hashlib.sha256(payload).hexdigest())
    recipe, signature = (octets(given.get(name, [])) for name in ("recipe", "signature"))
    names = given.get("peer", "alice"), frozenset(given.get("lineage", ()))
    return Record.encoded(given.get("cid", "c1"), payload, digest, *names, recipe, signature)


def called(given: Any, default: Any = None) -> Any:
    """A callable: one that knows some names or keys, always answers the same, or raises."""
    if given is None or "names" in given:
        return default if given is None else set(given["names"]).__contains__
    if "keys" in given:
        return hmac_verifier({peer: bytes.fromhex(key) for peer, key in given["keys"].items()})

    def answer(*arguments: Any) -> Any:
        if "raises" in given:
            raise getattr(builtins, given["raises"])
        return given["answers"]

    return answer


def lay_out(path: Path, entry: Case) -> Path:
    if "folder" in entry:
        path.mkdir()
        for name, inner in entry["folder"].items():
            lay_out(path / name, inner)
    elif "link" in entry:
        os.symlink(entry["link"], path)
    elif "pipe" in entry:
        os.mkfifo(path)
    else:
        path.write_bytes(octets(entry["bytes"]))
    return path


# --- actions --------------------------------------------------------------------------------


def told(fed: Federation) -> Outcome:
    counts = {name: getattr(fed.report, name) for name in ("admitted", "unchanged", "conflicts")}
    return counts | {"rejected": dict(fed.report.rejected), "held": {cid: fed.cache[cid] for cid in sorted(fed)}}


def importing(given: Case, fed: Federation) -> Outcome:
    fed.cache["mine"] = "local"
    before = told(import_(fed, list(map(record, given.get("held", ()))), lambda peer: True))["held"]
    options = {name: called(given.get(name)) for name in ("verify", "trusted_lineage", "observe")}
    options["limits"] = limits = Limits(**given.get("limits", {}))
    trusted = called(given.get("trusted"), lambda peer: True)

    def sent(peer: str) -> Iterable[Record]:
        if "bundle" in given:
            return read_bundle(io.BytesIO(octets(given["bundle"])), limits)
        return map(record, given.get("records", ()))

    fetch = called(given.get("fetch"), sent)
    try:
        if "asked" in given or "fetch" in given:
            return told(pull(fed, fetch, given.get("asked", "alice"), trusted, **options))
        return told(import_(fed, fetch("alice"), trusted, **options))
    except Exception:
        assert {cid: fed.cache[cid] for cid in sorted(fed)} == before, "what is refused changes nothing"
        raise


def importing_twice(given: Case, path: Path) -> Outcome:
    disk = artdag_fed.open(path / "instance")
    with contextlib.closing(disk.cache):  # type: ignore[type-var]  # every cache inside a Federation can be closed
        outcomes = [outcome(partial(importing, given, fed)) for fed in (Federation(), disk)]
    assert "only" in given or outcomes[0] == outcomes[1], "memory and disk do the same"
    return outcomes[given.get("only") == "disk"]


def opening(given: Case, path: Path) -> Outcome:
    def snapshot() -> object:
        return [(p, p.lstat().st_mode, p.is_file() and not p.is_symlink() and p.read_bytes()) for p in path.rglob("*")]

    place, before = lay_out(path / "cache", given["cache"]), snapshot()
    try:
        fed = artdag_fed.open(place)
    except FederationError:
        assert snapshot() == before, "what is refused is not written to"
        raise
    with contextlib.closing(fed.cache):  # type: ignore[type-var]  # as above
        return {"held": [cid for cid in sorted(fed) if fed.cache.get(cid) is not None]}


def fetching(given: Case, path: Path) -> Outcome:
    drive, limits = lay_out(path / "drive", given), Limits(**given.get("limits", {}))
    fetch = folder.fetcher({"alice": drive}, known=given.get("known"), limits=limits)
    return told(pull(Federation(), fetch, "alice", lambda peer: True))


def asking(given: Case, path: Path) -> Outcome:
    with Told(answering(octets(given["answer"]))) as server:
        if "have" in given:
            return {"digests": http.have(server.url, given["have"], deadline=5)}
        return told(pull(Federation(), http.fetcher({"alice": server.url}, deadline=5), "alice", lambda peer: True))


def running(given: Case, path: Path) -> Outcome:
    built = node(given["op"], **{name: typed_value(value) for name, value in given.get("params", {}).items()})
    return {"computed": len(run(Federation(), built, called(given.get("runner"), lambda *asked: None)).computed)}


ACTIONS: Mapping[str, Callable[[Case, Path], Outcome]] = {
    "import": importing_twice,
    "decode": lambda given, path: {"value": Codec().decode(octets(given["payload"]))},
    "recipe": lambda given, path: {"op": parse_recipe(octets(given["recipe"]))[0]},
    "run": running,
    "open": opening,
    "folder": fetching,
    "http": asking,
}


def outcome(act: Callable[[], Outcome]) -> Outcome:
    """What came of it: what the action tells, or the class of the error, whose message has to be one short line."""
    try:
        return act()
    except (FederationError, TypeError, ValueError) as error:
        assert str(error).isprintable() and len(str(error)) < 1000, str(error)
        return {"error": type(error).__name__}


# --- the tests ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_bad_input_has_the_outcome_that_its_case_tells(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    found = outcome(lambda: ACTIONS[case["action"]](case["given"], tmp_path))
    expected = {"error": None} | case["expected"]
    assert {key: found.get(key) for key in expected} == expected, case["about"]


def test_there_are_cases_of_every_area_and_each_says_what_it_is_about() -> None:
    assert len(CASES) >= 80 and {name.partition("-")[0] for name in CASES} == AREAS
    for name, case in CASES.items():
        assert set(case) == {"about", "action", "given", "expected"} and case["expected"], name
        assert case["about"][0].isupper() and case["about"].endswith("."), name
