"""The check of a durable cache: each kind of fault is found, named and, where asked, dropped; nothing else is."""

from __future__ import annotations

import json
import os
import sqlite3
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import artdag_fed
from artdag_fed import Record, StoreError, import_
from artdag_fed.caches.disk_blobs import Area, Blobs
from tests import disk_checks
from tests.children import Child
from tests.disk_checks import LARGE, NODE, blob_of, checked, held, mended, snapshot, tamper

template, folder = disk_checks.template, disk_checks.folder


# --- what is whole ----------------------------------------------------------------------------


def test_a_cache_that_is_whole_has_no_faults_and_is_not_written(folder: str) -> None:
    before = snapshot(folder)
    faults, summary = checked(folder)
    assert faults == [] and (summary.results, summary.files) == (5, 2)
    assert summary.bytes == 3 * len(LARGE) + 15
    assert checked(folder, mend=True)[0] == []
    assert snapshot(folder) == before


def test_a_folder_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    (tmp_path / "film.mov").write_bytes(b"frames")
    with pytest.raises(StoreError, match="other things in it"):
        checked(str(tmp_path))


def test_results_that_were_withdrawn_are_not_looked_at(folder: str) -> None:
    tamper(folder, "UPDATE result SET payload = x'00' WHERE cid = 'small'", "UPDATE origin SET live = 0 WHERE id > 1")
    faults, summary = checked(folder)
    assert faults == [] and summary.results == 2
    assert checked(folder, mend=True)[0] == []


# --- each kind of fault -----------------------------------------------------------------------


def set_to(column: str, value: str) -> Any:
    return lambda folder: tamper(folder, f"UPDATE result SET {column} = {value} WHERE cid = 'small'")


def flip(folder: str) -> None:
    path = blob_of(folder, "local")
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)


def as_link(folder: str) -> None:
    path = blob_of(folder, "local")
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to("../elsewhere")


def as_pipe(folder: str) -> None:
    path = blob_of(folder, "local")
    path.unlink()
    os.mkfifo(path)


FAULTS = {
    "payload": ("digest", "small", set_to("payload", "x'4e'")),
    "payload of another type": ("row", "small", set_to("payload", "'text'")),
    "no payload": ("file", "small", set_to("payload", "NULL")),
    "size": ("digest", "small", set_to("size", "1000")),
    "size of another type": ("row", "small", set_to("size", "'many'")),
    "digest of another type": ("row", "small", set_to("digest", "x'00'")),
    "digest that names a path": ("row", "small", set_to("digest", "'../../etc/passwd'")),
    "inputs' digest": ("row", "small", set_to("inputs_digest", "'abc'")),
    "source": ("row", "small", set_to("source", "x'00'")),
    "recipe of another type": ("row", "small", set_to("recipe", "12")),
    "text that is no UTF-8": ("row", "small", set_to("digest", "CAST(x'ff' AS TEXT)")),
    "time": ("row", "small", set_to("seconds", "-1.0")),
    "time without an end": ("row", "small", set_to("seconds", "9e999")),
    "time of another type": ("row", "small", set_to("seconds", "'long'")),
    "signature of another type": ("row", "small", set_to("signature", "'text'")),
    "origin that is not there": ("row", "small", set_to("origin", "77")),
    "cid": ("row", "a\x1b[31mb", set_to("cid", "'a' || char(27) || '[31mb'")),
    "cid that is no UTF-8": ("row", "\udcff", set_to("cid", "CAST(x'ff' AS TEXT)")),
    "cid of another type": ("row", "b'small'", set_to("cid", "CAST(cid AS BLOB)")),
    "recipe": ("recipe", NODE.cid, lambda folder: tamper(folder, "UPDATE result SET recipe = 'x' WHERE recipe <> ''")),
    "file with other bytes": ("digest", "local", flip),
    "file that is too long": ("file", "local", lambda folder: os.truncate(blob_of(folder, "local"), 99_999)),
    "file that is gone": ("file", "local", lambda folder: blob_of(folder, "local").unlink()),
    "file that is a link": ("file", "local", as_link),
    "file that is a pipe": ("file", "local", as_pipe),
}


@pytest.mark.parametrize("damage", FAULTS)
def test_a_result_that_fails_is_told_of_and_alone_is_dropped(folder: str, damage: str) -> None:
    kind, cid, do = FAULTS[damage]
    whole = held(folder)
    do(folder)
    before = snapshot(folder) if damage != "file that is a pipe" else {}
    [fault, *counts], _ = checked(folder)  # sizes and origins that are wrong do not add up, either
    assert (fault.kind, fault.what, fault.dropped) == (kind, cid, False) and fault.why.isascii()
    assert {fault.kind for fault in counts} <= ({"count"} if damage[:4] in ("size", "time", "orig") else set())
    assert damage == "file that is a pipe" or snapshot(folder) == before
    faults, _ = checked(folder, mend=True)
    assert faults[0] == fault._replace(dropped=True)
    assert {f.kind for f in faults[1:]} <= {"count"} and all(f.dropped for f in faults)
    assert checked(folder)[0] == []
    gone = {"local"} if cid == "local" else {NODE.cid} if cid == NODE.cid else {"small"}
    assert held(folder) == whole - gone


def test_a_damaged_file_of_two_results_fails_both(folder: str) -> None:
    blob_of(folder, "large").write_bytes(b"!")
    faults, _ = checked(folder, mend=True)
    assert {(fault.kind, fault.what) for fault in faults} == {("file", "large"), ("file", "second")}
    assert held(folder) == {NODE.cid, "local", "small"} and len(Blobs(folder).names()) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "peer = 'a' || char(27)",
        "peer = ''",
        "peer = x'00'",
        "lineage = '['",
        "lineage = '[1]'",
        "lineage = '{}'",
        "lineage = '[\"alice\"]'",
        'lineage = \'["carol","carol"]\'',
        "lineage = x'ff'",
        "lineage = replace(hex(zeroblob(50000)), '0', '[')",
        "live = 2",
    ],
)
def test_an_origin_that_cannot_be_read_goes_with_its_results(folder: str, damage: str) -> None:
    whole = held(folder)
    tamper(folder, f"UPDATE origin SET {damage} WHERE peer = 'alice' AND lineage = '[]'")
    fault = mended(folder)
    assert fault.kind == "origin" and fault.why.isascii() and len(fault.why) < 200
    assert held(folder) == whole - {"small", "second"}


@pytest.mark.parametrize(
    "damage",
    ["results = 7", "bytes = bytes - 1", "results = 'few'", "bytes = 1.5", "seconds = 99", "seconds = 'long'"],
)
def test_a_count_that_is_wrong_is_counted_again_and_no_result_goes(folder: str, damage: str) -> None:
    whole = held(folder)
    tamper(folder, f"UPDATE origin SET {damage} WHERE peer IS NULL")
    fault = mended(folder)
    assert (fault.kind, fault.what) == ("count", "origin-1")
    assert held(folder) == whole
    assert len(artdag_fed.open(folder)) == 5


@pytest.mark.parametrize(
    "damage",
    [
        "cid = 'a b'",
        "cid = CAST(x'ff' AS TEXT)",
        "peer = ' '",
        "digest = 'abc'",
        "size = -1",
        "lineage = '{'",
        "lineage = '[\"dora\"]'",
        "signature = 'text'",
        "at = 'then'",
        "arrived = 7",
    ],
)
def test_evidence_that_cannot_be_read_is_dropped_and_no_result_with_it(folder: str, damage: str) -> None:
    whole = held(folder)
    fed = artdag_fed.open(folder)
    import_(fed, [Record("small", "another", "dora")], {"dora"}.__contains__).cache.close()  # type: ignore[attr-defined]  # it has one
    assert checked(folder)[0] == []
    tamper(folder, f"UPDATE offer SET {damage} WHERE peer = 'dora'")
    fault = mended(folder)
    assert fault.kind == "offer" and fault.why.isascii()
    assert held(folder) == whole
    assert [offer.peer for offer in artdag_fed.open(folder).cache.offers()] == ["alice"]  # type: ignore[attr-defined]  # it has that


def test_files_that_no_row_names_are_leftovers_and_what_is_not_ours_stays(folder: str) -> None:
    left, stranger = Path(folder, "blobs", "0" * 64), Path(folder, "blobs", "notes.txt")
    left.write_bytes(b"")
    stranger.write_bytes(b"mine")
    area = Area(Blobs(folder))  # one that is in use: no fault
    faults, _ = checked(folder)
    assert {(f.kind, f.what) for f in faults} == {("leftover", "0" * 64), ("stranger", "notes.txt")}
    faults, _ = checked(folder, mend=True)
    assert {(f.kind, f.dropped) for f in faults} == {("leftover", True), ("stranger", False)}
    assert stranger.exists() and not left.exists() and os.path.isdir(area.path)
    area.close()


def test_what_a_killed_process_was_laying_ready_is_a_leftover(folder: str) -> None:
    def die() -> None:
        Area(Blobs(folder)).write("1" * 64, b"half")

    Child(die).result()
    [fault], _ = checked(folder)
    assert fault.kind == "leftover"
    checked(folder, mend=True)
    assert checked(folder)[0] == [] and os.listdir(Path(folder, "blobs", "staging")) == []


def test_a_file_that_waits_to_be_removed_is_no_fault(folder: str) -> None:
    digest = blob_of(folder, "local").name
    tamper(folder, "DELETE FROM result WHERE cid = 'local'", f"INSERT INTO garbage VALUES ('{digest}')")
    assert {fault.kind for fault in checked(folder)[0]} == {"count"}


# --- a damaged index --------------------------------------------------------------------------


def test_an_index_that_sqlite_finds_damaged_is_told_of_and_not_mended(folder: str) -> None:
    tamper(folder, "UPDATE result SET payload = x'4e' WHERE cid = 'small'")
    path = Path(folder, "index.sqlite3")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA writable_schema = ON")  # an index that has entries of which the table knows nothing
        [root] = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'result_origin'").fetchone()
        [page] = db.execute("PRAGMA page_size").fetchone()
    db.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * page + 3 : (root - 1) * page + 5] = b"\0\1"  # it says that it has one cell
    path.write_bytes(data)
    before = snapshot(folder)
    faults, _ = checked(folder, mend=True)
    assert {"index", "digest"} <= {fault.kind for fault in faults}
    assert not any(fault.dropped for fault in faults) and snapshot(folder) == before


def test_an_index_full_of_rubbish_is_a_store_error(folder: str) -> None:
    path = Path(folder, "index.sqlite3")
    data = path.read_bytes()
    path.write_bytes(data[:16384] + b"\xa5" * (len(data) - 16384))
    try:
        faults, _ = checked(folder)
    except StoreError as error:
        assert "damaged" in str(error)
    else:
        assert faults[0].kind == "index"


def test_memory_is_for_a_batch_of_rows_and_a_piece_of_a_file(tmp_path: Path) -> None:
    fed = artdag_fed.open(tmp_path / "cache")
    import_(fed, (Record(f"c{i}", bytes(30_000), "alice") for i in range(500)), {"alice"}.__contains__)
    fed.cache["large"] = bytes(20_000_000)
    fed.cache.close()  # type: ignore[attr-defined]  # it has one
    tracemalloc.start()
    try:
        faults, summary = checked(str(tmp_path / "cache"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert faults == [] and summary.results == 501
    assert peak < 10_000_000, f"{peak:,} bytes for a cache of 35 million"


def test_a_fault_is_data(folder: str) -> None:
    tamper(folder, "UPDATE result SET payload = x'4e' WHERE cid = 'small'")
    [fault], _ = checked(folder)
    assert json.loads(json.dumps(fault._asdict()))["what"] == "small"
