"""Durable caches of earlier versions: opened, migrated once and wholly, and found to hold what they held."""

from __future__ import annotations

import os
import signal
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from artdag_fed import DiskCache, Federation, Record, StoreError, import_, invalidate
from artdag_fed.cache import Origin, Total
from artdag_fed.caches import disk_index
from tests.children import Child, all_at_once
from tests.disk_caches import tree

VECTORS = Path(__file__).parent / "vectors"
LARGE = bytes(range(256)) * 130
BLUR = "6c8479f05154f79aca2c5a2dd462435bf65e4c65603634cb5e071d5d2e348b41"
LOAD = "5725090e664c691829f8ea2b061aa1bed67d5998355bd539859b11dc0b1e995c"
SOURCES = {  # by version: the ops were written in other files
    1: {
        LOAD: "397a5e79f8c6f77874cf77c7d1a13714e4a6cb4b569b3cf11cb9f27f8e9f1e64",
        BLUR: "94b09e9dd7b8a58ae39e14a370b3a6b1cf8a7e24b4a2395500c3133ef72b3043",
    },
    2: {
        LOAD: "8a6b2596a43c13f6fdec6e2fc4c5050d181a8ea22c3c95e529e5bc8d3e615e4f",
        BLUR: "2fce3726421f6a57f01aeb51cf2c686daa5ce2a656f3c1b6377039c821872f9c",
    },
}


def unpacked(name: str, place: Path) -> Path:
    with tarfile.open(VECTORS / f"{name}.tar.gz") as tar:
        tar.extractall(place, filter="data")
    return place / name.split("-")[1]


def v1(place: Path) -> Path:
    return unpacked("cache-v1-used", place)


def schema(folder: Path) -> tuple[int, set[str]]:
    db = sqlite3.connect(folder / "index.sqlite3")
    found = {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
    [version] = db.execute("PRAGMA user_version").fetchone()
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    return version, found


def check_holds_all(folder: Path, made_by: int = 1) -> None:
    """What both versions' folders hold: they were filled by the same lines."""
    cache = DiskCache(folder)
    fed = Federation(cache)
    assert {cid: cache[cid] for cid in cache} == {
        "from-alice": 1,
        "from-bob": LARGE,
        LOAD: "a.png",
        BLUR: ["a.png", 3],
    }
    assert dict(fed.provenance) == {"from-alice": "alice", "from-bob": "bob"}
    assert dict(fed.lineage) == {"from-bob": frozenset({"carol"})}
    assert {cid: held.source for cid, held in cache.held([LOAD, BLUR]).items()} == SOURCES[made_by]
    assert {cid for cid, _ in cache.recipes()} == {LOAD, BLUR} and cache.made([BLUR])[BLUR].inputs_digest
    assert cache.origins()[Origin("bob", frozenset({"carol"}))] == Total(1, len(cache.codec.encode(LARGE)), 0.0)
    assert [cid for cid, _ in cache.inventory()][:2] == ["from-alice", "from-bob"]
    assert "from-mallory0" not in cache, "withdrawn, and not yet purged when the folder was kept"
    cache.close()


def test_a_folder_of_version_1_is_migrated_and_holds_what_it_held(tmp_path: Path) -> None:
    folder = v1(tmp_path)
    assert schema(folder)[0] == 1
    check_holds_all(folder)
    DiskCache(tmp_path / "new").close()
    assert schema(folder) == schema(tmp_path / "new"), "what was migrated is exactly what would be made"
    assert schema(folder)[0] == 2
    before = tree(folder)
    check_holds_all(folder)
    assert tree(folder) == before, "it is migrated once"

    cache = DiskCache(folder)
    assert list(cache.offers()) == []
    import_(
        Federation(cache), [Record("from-alice", 2, "bob"), Record("from-mallory0", 0, "bob")], {"bob"}.__contains__
    )
    assert [(o.peer, o.signature) for o in cache.offers()] == [("alice", b""), ("bob", b"")]
    assert len(invalidate(Federation(cache), "alice")) == 4 and not cache.purge()
    assert sorted(path.name for path in (folder / "blobs").glob("?" * 64)) == [
        cache.made(["from-bob"])["from-bob"].digest
    ]
    cache.close()


def test_a_folder_of_version_2_holds_what_it_held(tmp_path: Path) -> None:
    folder = unpacked("cache-v2", tmp_path)
    assert schema(folder)[0] == 2
    check_holds_all(folder, made_by=2)
    cache = DiskCache(folder)
    found = [(o.cid, o.peer, o.signature, o.at) for o in cache.offers()]
    assert found == [("from-alice", "alice", b"hers", 5.0), ("from-alice", "dave", b"", 5.0)]
    assert cache.made(["from-alice"])["from-alice"].seconds == 0.0 and cache.made([BLUR])[BLUR].seconds == 2.5
    assert cache.origins()[Origin(None)].seconds == 2.5
    cache.close()


def test_a_folder_of_version_1_that_has_been_altered_is_refused_untouched(tmp_path: Path) -> None:
    folder = v1(tmp_path)
    db = sqlite3.connect(folder / "index.sqlite3")
    db.execute("ALTER TABLE result ADD COLUMN seconds REAL")
    db.close()
    before = tree(folder)
    with pytest.raises(StoreError, match="tables have been altered"):
        DiskCache(folder)
    assert tree(folder) == before


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A temporary folder that other users may look into, which pytest's are not."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield Path(path)


def test_a_folder_of_version_1_that_may_only_be_read_says_what_to_do(public_path: Path) -> None:
    folder = v1(public_path)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = tree(public_path)

    def look() -> str:
        if os.getuid() == 0:  # whom no mode of a file stops
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        with pytest.raises(StoreError) as caught:
            DiskCache(folder)
        return str(caught.value)

    said = Child(look).result()
    assert "is a cache of version 1, which has to be brought to version 2 and cannot be written" in said
    assert "copy it and open the copy" in said and tree(public_path) == before
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)


def test_several_processes_may_migrate_one_folder_at_once(tmp_path: Path) -> None:
    for attempt in range(4):
        folder = v1(tmp_path / str(attempt))

        def work(me: int, folder: Path = folder) -> None:
            cache = DiskCache(folder)
            cache[f"c{me}"] = me
            cache.close()

        all_at_once(work, 3)
        cache = DiskCache(folder)
        assert len(cache) == 7 and [cache[f"c{me}"] for me in range(3)] == [0, 1, 2]
        cache.close()


class Dies(tuple[str, ...]):
    """Statements, of which a process that runs them is killed before the nth."""

    before = 0

    def __iter__(self) -> Iterator[str]:
        for number, sql in enumerate(tuple(super().__iter__())):
            if number == self.before:
                os.kill(os.getpid(), signal.SIGKILL)
            yield sql
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("before", range(len(disk_index.MIGRATION) + 1))
def test_a_migration_that_is_killed_anywhere_leaves_version_1_and_is_done_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    folder = v1(tmp_path)
    was = schema(folder)
    pid = os.fork()
    if pid == 0:
        dies = Dies(disk_index.MIGRATION)
        dies.before = before
        monkeypatch.setattr(disk_index, "MIGRATION", dies)
        DiskCache(folder)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert schema(folder) == was
    check_holds_all(folder)
    assert schema(folder)[0] == 2


def test_what_a_killed_creator_left_is_removed_an_hour_later(tmp_path: Path) -> None:
    DiskCache(tmp_path / "c").close()
    half = tmp_path / "c" / "index.sqlite3.0123456789abcdef.new"
    names = [half, half.with_name(half.name + "-journal")]
    strangers = [half.with_name("index.sqlite3.mine.new"), half.with_name("index.sqlite3.new")]
    for path in (*names, *strangers):
        path.write_bytes(b"half")
    made = half.stat().st_mtime
    disk_index.open_index(str(tmp_path / "c"), lambda: made + 3000.0).close()
    assert all(path.exists() for path in names), "one that may be at work still needs it"
    disk_index.open_index(str(tmp_path / "c"), lambda: made + 4000.0).close()
    assert not any(path.exists() for path in names) and all(path.exists() for path in strangers)
