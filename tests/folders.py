"""Folders that an instance is published to: what they offer, and how a test looks at or changes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from artdag_fed import Federation, pull
from artdag_fed.transports.folder import fetcher
from tests.instances import everyone

MANIFEST = "artdag-fed.json"


def fetched(path: Path, peer: str = "alice", **options: Any) -> Federation:
    return pull(Federation(), fetcher({peer: path}, **options), peer, everyone)


def files(path: Path, ending: str = "") -> dict[str, tuple[int, int]]:
    """Each file with what tells that it was written anew: its inode and time."""
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in path.iterdir() if p.name.endswith(ending)}


def manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / MANIFEST).read_bytes())


def alice(count: int = 10) -> Federation:
    return Federation({f"c{i}": f"result {i}" for i in range(count)})


def offered(path: Path) -> dict[str, Any]:
    got = fetched(path)
    return {cid: got.cache[cid] for cid in got}
