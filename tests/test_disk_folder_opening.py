"""The folder of a durable cache: what becomes one, and what is refused untouched."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import DiskCache, Federation, StoreError, invalidate, node, run
from tests.children import all_at_once
from tests.disk_caches import LARGE, contents, fill, tree

V1 = Path(__file__).parent / "vectors" / "cache-v1"


# --- what becomes a cache -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "with space", "50%?#&=.é", "file:x?mode=ro"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_and_an_empty_folder_become_a_cache(tmp_path: Path, name: str, exists: bool) -> None:
    folder = tmp_path / name
    if exists:
        folder.mkdir()
    held = fill(folder)
    assert contents(folder) == held
    assert sorted(p.name for p in folder.iterdir()) == ["blobs", "index.sqlite3", "index.sqlite3-journal"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_what_a_killed_creator_left_does_not_keep_a_folder_from_becoming_a_cache(tmp_path: Path) -> None:
    (tmp_path / "blobs" / "staging").mkdir(parents=True)
    (tmp_path / "index.sqlite3.0123456789abcdef.new").write_bytes(b"half")
    (tmp_path / "index.sqlite3.0123456789abcdef.new-journal").write_bytes(b"")
    assert contents(tmp_path) == {}


def test_opening_and_reading_a_cache_writes_nothing(tmp_path: Path) -> None:
    held = fill(tmp_path / "c")
    before = tree(tmp_path)
    assert contents(tmp_path / "c") == held
    assert tree(tmp_path) == before


def test_a_cache_is_the_folder_that_its_path_leads_to_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = fill(tmp_path / "c")
    (tmp_path / "link").symlink_to("c")
    monkeypatch.chdir(tmp_path)
    caches = [DiskCache("c"), DiskCache("link"), DiskCache(tmp_path / "c"), DiskCache(f"//{tmp_path}/c")]
    monkeypatch.chdir("/")
    for cache in caches:
        assert cache == caches[0] and hash(cache) == hash(caches[0]) and cache["mine"] == held["mine"]
        assert repr(cache) == f"<DiskCache {tmp_path}/c>"
        cache.close()
    assert caches[0] != DiskCache(tmp_path / "other")


def test_two_processes_may_make_one_cache_at_once(tmp_path: Path) -> None:
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        if attempt % 2:
            folder.mkdir()

        def work(me: int, folder: Path = folder) -> None:
            cache = DiskCache(folder)
            cache[f"c{me}"] = me
            cache[f"large{me}"] = LARGE
            cache.close()

        all_at_once(work, 3)
        held = contents(folder)
        assert {cid: v for cid, v in held.items() if cid[0] == "c"} == {"c0": 0, "c1": 1, "c2": 2} and len(held) == 6
        assert sorted(p.name for p in folder.iterdir()) == ["blobs", "index.sqlite3", "index.sqlite3-journal"]


def test_a_folder_of_version_1_is_read_and_written(tmp_path: Path) -> None:
    folder = tmp_path / "v1"
    shutil.copytree(V1, folder)
    shutil.rmtree(folder / "blobs" / "staging", ignore_errors=True)  # as it comes out of git, which keeps no empty ones
    large = bytes(range(256)) * 130
    first = node("load@1", path="a.png")
    second = node("blur@1", first, radius=3)
    cache = DiskCache(folder)
    fed = Federation(cache)
    assert cache.load(list(cache)).keys() == {"from-alice", "from-bob", first.cid, second.cid}
    assert cache["from-alice"] == {"frames": [1, 2.5, None]} and cache["from-bob"] == large
    assert cache[second.cid] == ["blur@1", ["load@1", {"path": "a.png"}], {"radius": 3}]
    assert dict(fed.provenance) == {"from-alice": "alice", "from-bob": "bob"}
    assert dict(fed.lineage) == {"from-bob": frozenset({"carol"})}
    assert list(cache.recipes("blur@1")) == [(second.cid, second.recipe)]
    assert run(fed, second, lambda *_: 1 / 0).computed == ()
    cache["new"], cache["new.large"] = 1, LARGE
    assert len(invalidate(fed, "bob")) == 5 and cache["new.large"] == LARGE
    assert len(list((folder / "blobs").glob("?" * 64))) == 1
    cache.close()


# --- what is refused, without a byte being written ----------------------------------------------


def sql(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def ours(folder: Path, *statements: str) -> Path:
    fill(folder)
    sql(folder / "index.sqlite3", *statements)
    return folder / "index.sqlite3"


def indexed(folder: Path, data: bytes) -> None:
    folder.mkdir()
    (folder / "index.sqlite3").write_bytes(data)


def foreign(folder: Path, *, name: str = "index.sqlite3") -> Path:
    folder.mkdir()
    sql(folder / name, "CREATE TABLE theirs (a)", "INSERT INTO theirs VALUES (zeroblob(100000))")
    return folder / name


def hot_journal(path: Path, update: str = "UPDATE theirs SET a = randomblob(200000)") -> None:
    """Leave a journal beside a database that has to be rolled back, as a process does that is killed in an update."""

    def die() -> None:
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("PRAGMA cache_size=1")  # so that changed pages are written before the commit
        db.execute("BEGIN")
        db.execute(update)
        os._exit(0)

    pid = os.fork()
    if pid == 0:
        die()
    os.waitpid(pid, 0)
    assert path.with_name(path.name + "-journal").stat().st_size > 1000


def a_file(folder: Path) -> None:
    folder.write_bytes(b"not a folder")


def other_things(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")


def blobs_alone(folder: Path) -> None:
    fill(folder)
    (folder / "index.sqlite3").unlink()
    (folder / "index.sqlite3-journal").unlink()


def truncated_to(size: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        os.truncate(ours(folder), size)

    return make


def garbage_behind_the_header(folder: Path) -> None:
    index = ours(folder)
    data = index.read_bytes()
    index.write_bytes(data[:100] + b"\xa5" * (len(data) - 100))


def foreign_with_a_hot_journal(folder: Path) -> None:
    hot_journal(foreign(folder))


def index_is_a_folder(folder: Path) -> None:
    (folder / "index.sqlite3").mkdir(parents=True)


def index_is_a_dangling_link(folder: Path) -> None:
    folder.mkdir()
    (folder / "index.sqlite3").symlink_to("nowhere")


def index_leads_to_another(folder: Path) -> None:
    foreign(folder, name="theirs.db")
    (folder / "index.sqlite3").symlink_to("theirs.db")


def altered(*statements: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        ours(folder, *statements)

    return make


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a file": (a_file, "is a file; a cache is a folder"),
    "a missing parent": (lambda folder: None, "its parent .* is no folder"),
    "other things and no index": (other_things, r"other things in it \(notes.txt\) and no index"),
    "files of results and no index": (blobs_alone, r"other things in it \(blobs\) and no index"),
    "an empty index": (lambda folder: indexed(folder, b""), "has no bytes, so it is no index of ours"),
    "a truncated header": (truncated_to(50), "is no SQLite file"),
    "an index cut in its first page": (truncated_to(5000), "is damaged"),
    "an index cut between pages": (truncated_to(3 * 16384), "is damaged"),
    "garbage": (lambda folder: indexed(folder, bytes(range(256)) * 20), "is no SQLite file"),
    "garbage that begins like SQLite": (
        lambda folder: indexed(folder, b"SQLite format 3\0" + b"\7" * 5000),
        "belongs to another program",
    ),
    "garbage behind our header": (garbage_behind_the_header, "is damaged|altered"),
    "another program's database": (foreign, "belongs to another program"),
    "another program's database with a journal to be rolled back": (
        foreign_with_a_hot_journal,
        "belongs to another program",
    ),
    "a newer version": (altered("PRAGMA user_version=3"), "version 3; this artdag_fed reads up to version 2"),
    "an older version that has our tables": (altered("PRAGMA user_version=1"), "tables have been altered"),
    "a version that never was": (altered("PRAGMA user_version=0"), "belongs to another program"),
    "a trigger": (
        altered("CREATE TRIGGER t AFTER DELETE ON result BEGIN DELETE FROM origin; END"),
        "tables have been altered",
    ),
    "a table more": (altered("CREATE TABLE more (a)"), "tables have been altered"),
    "an index more": (altered("CREATE INDEX more ON result (size)"), "tables have been altered"),
    "a view more": (altered("CREATE VIEW more AS SELECT 1"), "tables have been altered"),
    "an index less": (altered("DROP INDEX result_blob"), "tables have been altered"),
    "a column more": (altered("ALTER TABLE result ADD COLUMN more"), "tables have been altered"),
    "a journal mode that is not safe": (altered("PRAGMA journal_mode=WAL"), "set to WAL"),
    "an index that is a folder": (index_is_a_folder, "cannot be opened as a cache"),
    "an index that leads nowhere": (index_is_a_dangling_link, "cannot be opened as a cache"),
    "an index that leads to another program's": (index_leads_to_another, "belongs to another program"),
}


@pytest.mark.parametrize(("make", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_exactly_ours_is_refused_without_a_byte_being_written(
    make: Callable[[Path], Any], says: str, tmp_path: Path
) -> None:
    folder = tmp_path / "parent" / "cache"
    if says != REFUSED["a missing parent"][1]:
        folder.parent.mkdir()
    make(folder)
    before, files = tree(tmp_path), len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        with pytest.raises(StoreError, match=says) as caught:
            DiskCache(folder)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert tree(tmp_path) == before
    assert len(os.listdir("/proc/self/fd")) == files


def test_a_journal_of_our_own_is_rolled_back(tmp_path: Path) -> None:
    held = fill(tmp_path / "c")
    hot_journal(tmp_path / "c" / "index.sqlite3", "UPDATE result SET digest = 'no', recipe = randomblob(200000)")
    assert contents(tmp_path / "c") == held
