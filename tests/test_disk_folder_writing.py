"""The folder of a durable cache: what happens when it cannot be written, and when it is locked."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import DiskCache, Federation, Record, StoreError, import_, invalidate, node, run
from artdag_fed.caches import disk_index
from artdag_fed.caches.disk_blobs import Area
from tests.children import Child
from tests.disk_caches import LARGE, contents, fill, tree


def small(count: int) -> list[Record]:
    return [Record(f"s{i}", f"{i:0200}", "alice") for i in range(count)]


# --- what cannot be written ---------------------------------------------------------------------


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A temporary folder that other users may look into, which pytest's are not."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield Path(path)


def test_a_folder_that_may_only_be_read_is_read_and_a_write_is_an_error_that_loses_nothing(public_path: Path) -> None:
    folder = public_path / "c"
    held = fill(folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = tree(public_path)

    def look_and_try_to_write() -> list[str]:
        if os.getuid() == 0:  # whom no mode of a file stops
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        cache = DiskCache(folder)
        fed = Federation(cache)
        said = []
        for write in (
            lambda: cache.__setitem__("new", 1),
            lambda: cache.__setitem__("new.large", LARGE + b"new"),
            lambda: cache.__delitem__("mine"),
            lambda: invalidate(fed, "alice"),
            lambda: import_(fed, small(10), lambda peer: True),
            lambda: run(fed, node("op"), lambda *_: 1),
        ):
            assert {cid: cache[cid] for cid in cache} == held and fed.provenance["a1"] == "alice"
            try:
                write()
            except StoreError as error:
                said.append(str(error))
        assert {cid: cache[cid] for cid in cache} == held
        cache.close()
        return said

    said = Child(look_and_try_to_write).result()
    assert len(said) == 6 and all(str(folder) in s for s in said), said
    assert tree(public_path) == before
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)


@pytest.mark.parametrize("what", ["index", "blobs"])
def test_a_file_that_cannot_grow_is_an_error_that_loses_nothing_and_room_ends_it(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "c"
    held = fill(folder)

    def work() -> None:
        cache = DiskCache(folder)
        fed = Federation(cache)
        limit = (folder / "index.sqlite3").stat().st_size + 20_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        records = small(3000) if what == "index" else [Record("large", b"l" * (limit + 1), "alice"), *small(1)]
        for _ in range(2):
            with pytest.raises(StoreError, match="What was stored before is still there"):
                import_(fed, records, lambda peer: True)
            assert {cid: cache[cid] for cid in cache} == held
            assert os.listdir(folder / "blobs" / "staging") == []
        cache["fits"] = 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert import_(fed, records, lambda peer: True).report.admitted == len(records)
        cache.close()

    Child(work).result()
    found = contents(folder)
    assert found["fits"] == 1 and found.keys() > held.keys()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("what", ["index", "blobs"])
def test_a_full_disk_is_an_error_that_loses_nothing_and_room_ends_it(small_disk: Path, what: str) -> None:
    folder = small_disk / "c"
    held = fill(folder)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"b" * (1 << 20))
    cache = DiskCache(folder)
    fed = Federation(cache)
    large = [Record(f"l{i}", bytes([i]) * 100_000, "alice") for i in range(9)]
    records = small(3000) if what == "index" else [*large, *small(1)]
    for _ in range(2):
        with pytest.raises(StoreError, match="What was stored before is still there") as caught:
            import_(fed, records, lambda peer: True)
        assert str(folder) in str(caught.value)
        assert {cid: cache[cid] for cid in cache} == held
    ballast.unlink()
    assert import_(fed, records, lambda peer: True).report.admitted == len(records)
    assert cache[records[0].cid] == records[0].result
    cache.close()
    assert os.listdir(folder / "blobs" / "staging") == []


def test_files_whose_rows_could_not_be_committed_are_removed_by_the_next_large_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = DiskCache(tmp_path)

    def publish_and_fail(area: Area, digests: list[str], publish: Any = Area.publish) -> None:
        publish(area, digests)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Area, "publish", publish_and_fail)
        with pytest.raises(StoreError, match="No space left on device"):
            cache["lost"] = LARGE
    assert "lost" not in cache and len(list(tmp_path.glob("blobs/" + "?" * 64))) == 1
    cache["kept"] = LARGE + b"kept"
    assert len(list(tmp_path.glob("blobs/" + "?" * 64))) == 1 and os.listdir(tmp_path / "blobs" / "staging") == []
    assert cache["kept"] == LARGE + b"kept"
    cache.close()


# --- in use -------------------------------------------------------------------------------------


HOLD = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN " + sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[[Path, str], Callable[[], None]]]:
    """Lock an index from another process; what is returned lets go."""
    holders = []

    def start(index: Path, how: str) -> Callable[[], None]:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(index), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        holders.append(holder)
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"

        def let_go() -> None:
            holder.communicate()

        return let_go

    yield start
    for holder in holders:
        if holder.poll() is None:
            holder.communicate()


def test_a_cache_that_another_process_holds_for_too_long_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold: Callable[[Path, str], Callable[[], None]]
) -> None:
    monkeypatch.setattr(disk_index, "BUSY_SECONDS", 0.05)
    folder = tmp_path / "c"
    held = fill(folder)
    cache = DiskCache(folder)
    fed = Federation(cache)
    let_go = hold(folder / "index.sqlite3", "EXCLUSIVE")
    for use in (
        lambda: DiskCache(folder),
        lambda: cache["mine"],
        lambda: list(cache),
        lambda: len(fed.provenance),
        lambda: cache.__setitem__("new", 1),
        lambda: cache.__setitem__("new.large", LARGE + b"new"),
        lambda: invalidate(fed, "alice"),
        lambda: run(fed, node("op"), lambda *_: 1),
    ):
        with pytest.raises(StoreError, match="is in use by another process") as caught:
            use()
        assert str(folder) in str(caught.value)
    let_go()
    cache["new"] = 1
    cache.close()
    assert contents(folder) == held | {"new": 1}
    assert os.listdir(folder / "blobs" / "staging") == []


def test_a_process_that_writes_does_not_keep_others_from_reading(
    tmp_path: Path, hold: Callable[[Path, str], Callable[[], None]]
) -> None:
    held = fill(tmp_path / "c")
    hold(tmp_path / "c" / "index.sqlite3", "IMMEDIATE")
    assert contents(tmp_path / "c") == held


def test_a_busy_cache_is_waited_for_up_to_a_minute(tmp_path: Path) -> None:
    assert disk_index.BUSY_SECONDS == 60
    cache = DiskCache(tmp_path)
    with cache.alone() as db:
        assert db.execute("PRAGMA busy_timeout").fetchone() == (60_000,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("truncate",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
    cache.close()
