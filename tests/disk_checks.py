"""A durable cache to damage, and its check, for the tests of that.

Rules: what is damaged is a copy; the check is asked for its faults and for its summary, which have to agree.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

import artdag_fed
from artdag_fed import Record, import_, node, run
from artdag_fed.caches.disk_check import Checked, Fault, check_folder

LARGE = b"pixels" * 10_000
NODE = node("load@1", n=1)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a result of each sort: small and large, here and from peers, of our ids and of another system's."""
    path = tmp_path_factory.mktemp("template") / "cache"
    fed = artdag_fed.open(path)
    fed = run(fed, NODE, lambda op, inputs, params: [params["n"]]).federation
    fed.cache["local"] = LARGE
    records = [
        Record("small", [1, 2], "alice"),
        Record("large", LARGE + b"!", "alice", lineage=frozenset({"carol"})),
        Record("second", LARGE + b"!", "alice"),
    ]
    import_(fed, records, {"alice"}.__contains__).cache.close()  # type: ignore[attr-defined]  # it has one
    return path


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> str:
    """A copy of that one."""
    return str(shutil.copytree(template, tmp_path / "cache"))


def checked(folder: str, *, mend: bool = False) -> tuple[list[Fault], Checked]:
    faults: list[Fault] = []
    summary = check_folder(folder, found=faults.append, mend=mend)
    assert summary.found == len(faults)
    return faults, summary


def mended(folder: str) -> Fault:
    """The one fault that there is, which is found, told of as dropped where that is asked for, and gone then."""
    [fault], _ = checked(folder)
    assert checked(folder, mend=True)[0] == [fault._replace(dropped=True)]
    assert checked(folder)[0] == []
    return fault


def held(folder: str) -> set[str]:
    fed = artdag_fed.open(folder)
    try:
        assert sum(1 for cid in fed if fed.cache[cid] is not None) == len(fed)
        return set(fed)
    finally:
        fed.cache.close()  # type: ignore[attr-defined]  # it has one


def tamper(folder: str, *statements: str) -> None:
    with sqlite3.connect(Path(folder, "index.sqlite3")) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def blob_of(folder: str, cid: str) -> Path:
    with sqlite3.connect(Path(folder, "index.sqlite3")) as db:
        [digest] = db.execute("SELECT digest FROM result WHERE cid = ?", (cid,)).fetchone()
    db.close()
    return Path(folder, "blobs", digest)


def snapshot(folder: str) -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
