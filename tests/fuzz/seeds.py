"""Where fuzzing begins, and its bounds: the bundles and payloads of `tests/vectors` and `tests/corpus`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["ALONE", "EACH_BYTE", "LONGEST", "TARGETS", "of", "write"]

TESTS = Path(__file__).resolve().parent.parent
TARGETS = ("bundle", "codec")
LONGEST = 4096
"""Bytes of an input: what is longer is more of the same, and slower."""

EACH_BYTE, ALONE = 64, 128 << 10
"""Bytes of memory that reading may take for each byte of an input (`[],` is three, and a list in a list 64), and
whatever the input: two frames of the interpreter for each of 64 levels are most of it."""


def of(target: str) -> Iterator[bytes]:
    """The seeds of a target."""
    from tests.test_corpus import octets  # the one reader of that format; it needs pytest, which the replay has

    if target == "bundle":
        for path in (TESTS / "vectors").glob("*.bin"):
            yield path.read_bytes()
        for refused in json.loads((TESTS / "vectors" / "bundle.json").read_bytes())["refused"]:
            yield bytes.fromhex(refused["stream"])
    else:
        for vector in json.loads((TESTS / "vectors" / "codec.json").read_bytes()):
            yield bytes.fromhex(vector["payload"])
    for path in sorted((TESTS / "corpus").glob(f"{target}-*/case.json")):
        given: Any = json.loads(path.read_bytes())["given"]
        yield octets(given["bundle" if target == "bundle" else "payload"])


def write(target: str, folder: Path) -> int:
    """Put the seeds into `folder`, those that are not too long; how many it were."""
    folder.mkdir(parents=True, exist_ok=True)
    fitting = {seed for seed in of(target) if len(seed) <= LONGEST}
    for seed in fitting:
        (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    return len(fitting)
