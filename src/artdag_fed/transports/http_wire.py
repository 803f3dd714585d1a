"""What both ends of the HTTP road agree on: paths, media types, the two JSON texts, how long they may get.

Rules: a text is read strictly (one object, one known key, no key twice, nothing but texts inside), and the client holds
an answer to what it asked. What is wrong is a `ValueError` that says what; whose fault that is, the caller knows.

>>> read_asked(asked(["c1", "c2"]))
('c1', 'c2')
>>> read_digests(digests({"c1": "0" * 64}), {"c1", "c2"}) == {"c1": "0" * 64}
True
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from artdag_fed.names import Cid, is_cid, is_digest, shown

__all__ = [
    "BUNDLE_PATH",
    "BUNDLE_TYPE",
    "HAVE_PATH",
    "JSON_TYPE",
    "MOST_CIDS",
    "MOST_REQUEST_BYTES",
    "PAGE_PATH",
    "PAGE_TYPE",
    "TOKEN",
    "asked",
    "digests",
    "most_answer_bytes",
    "read_asked",
    "read_digests",
    "strict_json",
]

# The version is of the paths and of the texts; a bundle has its own, in its first line.
BUNDLE_PATH: Final = "/v1/bundle"
HAVE_PATH: Final = "/v1/have"
PAGE_PATH: Final = "/"  # without a version: it is for people

BUNDLE_TYPE: Final = "application/vnd.artdag-fed.bundle"
JSON_TYPE: Final = "application/json"
PAGE_TYPE: Final = "text/html; charset=utf-8"

MOST_CIDS: Final = 10_000
"""Cids in one request: a DAG's worth, and a server holds little for it. A client with more asks several times."""
MOST_REQUEST_BYTES: Final = 2 << 20
"""Bytes in one request's body: `MOST_CIDS` of the longest cids (128 characters, two quotes, a comma), and half more."""

TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}=*", re.ASCII)
"""What a bearer token is made of (RFC 6750, 2.1). Nothing in it could end a header line."""


def asked(cids: Iterable[Cid]) -> bytes:
    """The text of a question about these cids."""
    return json.dumps({"cids": list(cids)}, separators=(",", ":")).encode()


def read_asked(text: bytes) -> tuple[Cid, ...]:
    """The cids of a question, each once, in their order; `ValueError` where the text is none."""
    cids = _only(strict_json(text), "cids")
    if not isinstance(cids, list):
        raise ValueError("cids must be an array")
    if len(cids) > MOST_CIDS:
        raise ValueError(f"{len(cids):,} cids are more than the {MOST_CIDS:,} that one request may have")
    for cid in cids:
        if not is_cid(cid):
            raise ValueError(f"{shown(cid)} is no cid")
    return tuple(dict.fromkeys(cids))


def digests(found: Mapping[Cid, str]) -> bytes:
    """The text of an answer: the digest of each result that is offered."""
    return json.dumps({"digests": dict(found)}, separators=(",", ":")).encode()


def most_answer_bytes(count: int) -> int:
    """Bytes of the longest answer to a question about `count` cids, with some room for white space."""
    return 1024 + 256 * count


def read_digests(text: bytes, about: Collection[Cid]) -> dict[Cid, str]:
    """The digests in an answer; `ValueError` where it is none, or speaks of what was not asked about."""
    found = _only(strict_json(text), "digests")
    if not isinstance(found, dict):
        raise ValueError("digests must be an object")
    for cid, digest in found.items():
        if cid not in about:
            raise ValueError(f"{shown(cid)} was not asked about")
        if not isinstance(digest, str) or not is_digest(digest):
            raise ValueError(f"{shown(digest)} is no digest (64 lower-case hex digits)")
    return found


def strict_json(text: bytes) -> Any:
    """JSON of texts, arrays and objects, with no key twice; `ValueError` where it is something else."""
    try:
        return json.loads(
            text.decode(), object_pairs_hook=_once, parse_int=_refuse, parse_float=_refuse, parse_constant=_refuse
        )
    except RecursionError:  # thousands of brackets; nothing here is deeper than two
        raise ValueError("it is nested too deep") from None


def _only(value: Any, key: str) -> Any:
    if not isinstance(value, dict) or value.keys() != {key}:
        raise ValueError(f"it must be one object with the one key {key}")
    return value[key]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse(number: str) -> Any:
    raise ValueError(f"it has a number in it: {shown(number, 20)}")
