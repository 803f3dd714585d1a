"""The crash tools see what they are to see: every kind of damage, the wrong cache, and what a disk may lose.

Rules: each check is shown a folder that is wrong in one way and has to say so; the tools run here on a few points, and
in full by `python -m tests.crash.sweep` and `python -m tests.crash.powercut`.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.check import State, complaints
from tests.crash.child import Inline, dies_at, start
from tests.crash.cores import spread
from tests.crash.kill import Starts, attempt, points_of_calls, points_of_sql, states_of
from tests.crash.platter import Platter, lay
from tests.crash.powercut import _never_synced, record, replay
from tests.crash.recording import Op, Recorder, calls
from tests.crash.sweep import evenly
from tests.crash.two_step import TwoStepCache
from tests.crash.work import JOBS

JOB = {job.name: job for job in JOBS}
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crash")


@pytest.fixture(scope="module")
def starts(home: Path) -> Starts:
    made = Starts(home / "starts")
    made.prepare()
    return made


@pytest.fixture(scope="module")
def states(home: Path, starts: Starts) -> list[State]:
    return states_of(JOB["import"], starts, home)


@pytest.fixture
def folder(tmp_path: Path, starts: Starts) -> Path:
    starts.copy(JOB["import"], tmp_path / "cache")
    return tmp_path / "cache"


# --- what is wrong in a folder --------------------------------------------------------------


def test_a_sound_folder_has_nothing_to_complain_of(folder: Path, states: list[State]) -> None:
    assert complaints(folder, states, 0) == []


def sql(statement: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        db = sqlite3.connect(folder / "index.sqlite3")
        with db:
            db.execute(statement)
        db.close()

    return spoil


def move_to(origin: str, cid: str = "a0") -> Callable[[Path], None]:
    found = f"(SELECT id FROM origin WHERE live AND {origin} AND lineage = '[]')"
    return sql(f"UPDATE result SET origin = {found} WHERE cid = '{cid}'")


def a_blob(folder: Path) -> Path:
    return max(path for path in (folder / "blobs").iterdir() if path.is_file())


SPOILT: list[tuple[str, Callable[[Path], object]]] = [
    ("orphan", move_to("peer IS NULL")),
    ("orphan", sql("UPDATE result SET origin = 99 WHERE cid = 'a0'")),
    ("origin", move_to("peer = 'bob'")),
    ("half", sql("DELETE FROM result WHERE cid = 'a0'")),
    ("half", sql("UPDATE origin SET live = 0 WHERE peer = 'bob'")),
    ("counters", sql("UPDATE origin SET results = results + 1 WHERE live")),
    ("counters", sql("UPDATE origin SET bytes = bytes - 1 WHERE NOT live")),
    ("views", sql("UPDATE origin SET results = results + 1 WHERE live")),
    ("damaged", sql("UPDATE result SET payload = x'00' WHERE cid = 'a0'")),
    ("damaged", lambda folder: a_blob(folder).write_bytes(b"short")),
    ("damaged", lambda folder: a_blob(folder).write_bytes(bytes(a_blob(folder).stat().st_size))),
    ("damaged", lambda folder: a_blob(folder).unlink()),
    ("does not open", lambda folder: (folder / "index.sqlite3").write_bytes(b"")),
    ("does not open", sql("CREATE TABLE another (x)")),
    ("waste", lambda folder: (folder / "blobs" / ("0" * 64)).write_bytes(b"nobody's")),
    ("waste", lambda folder: (folder / "blobs" / "staging" / "left").write_bytes(b"nobody's")),
    ("follow-up", sql("UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'origin'")),
]


@pytest.mark.parametrize(("kind", "spoil"), SPOILT)
def test_each_kind_of_damage_is_complained_of(
    folder: Path, states: list[State], kind: str, spoil: Callable[[Path], object]
) -> None:
    spoil(folder)
    found = complaints(folder, states, 0)
    assert kind in {line.split(":")[0] for line in found}, found


def test_an_old_state_is_a_loss_where_a_newer_one_was_reported(folder: Path, states: list[State]) -> None:
    assert complaints(folder, states, 1)[0].startswith("lost: ")


def test_an_area_whose_lock_file_was_lost_in_a_power_cut_is_swept(folder: Path, states: list[State]) -> None:
    area = folder / "blobs" / "staging" / "0123456789abcdef"
    area.mkdir()
    (area / ("0" * 64)).write_bytes(b"nobody's")
    assert complaints(folder, states, 0) == [] and not area.exists()


# --- killing ----------------------------------------------------------------------------------


def test_a_job_killed_at_any_statement_leaves_old_or_new(home: Path, starts: Starts, tmp_path: Path) -> None:
    job = JOB["invalidate derived"]
    states = states_of(job, starts, home)
    points = [point for point in points_of_sql(job, starts, home) if point.kind == "statement"]
    found = [attempt(point, starts, states, tmp_path) for point in points]
    assert len(found) > 10 and all(f.killed for f in found)
    assert [f.complaints for f in found if f.complaints] == []


def test_a_cache_that_commits_in_two_steps_is_found_out(
    home: Path, starts: Starts, states: list[State], tmp_path: Path
) -> None:
    points = [p for p in points_of_sql(JOB["import"], starts, home, TwoStepCache) if p.kind == "statement"]
    found = [attempt(point, starts, states, tmp_path, TwoStepCache) for point in evenly(points, 30, seed=1)]
    assert any(line.startswith("orphan: ") for f in found for line in f.complaints)


def test_what_a_child_reported_is_known_after_it_was_killed(starts: Starts, tmp_path: Path) -> None:
    def ended(statement: int) -> tuple[int, int]:
        starts.copy(JOB["run"], tmp_path / "cache")
        return start(JOB["run"], tmp_path / "cache", arm=dies_at(statement)).ended()

    found = [ended(statement) for statement in range(10, 150, 10)]
    assert found[0] == (-signal.SIGKILL, 0) and found == sorted(found)
    assert {1, 2, 3} <= {reported for _, reported in found} and ended(10_000) == (0, 4)


@needs_strace
def test_a_child_is_killed_at_a_system_call(home: Path, starts: Starts, states: list[State], tmp_path: Path) -> None:
    points = [point for point in points_of_calls(JOB["import"], starts, home) if point.kind == "call"]
    assert {"pwrite64", "ftruncate", "unlink"} <= {point.call for point in points}
    found = [attempt(point, starts, states, tmp_path) for point in evenly(points, 6, seed=0)]
    assert all(f.killed and f.complaints == [] for f in found)


def test_the_stand_in_for_threads_hands_over_what_was_raised() -> None:
    assert Inline().submit(max, 1, 2).result() == 2
    with pytest.raises(ZeroDivisionError):
        Inline().submit(divmod, 1, 0).result()


def test_work_on_all_cores_is_whole_or_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert sorted(spread(lambda n: n + 1, range(5), cores=2)) == [1, 2, 3, 4, 5]
    with pytest.raises(RuntimeError, match="ended with 1"):
        list(spread(lambda n: 1 // n, [1, 0], cores=2))
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_budget_is_spread_evenly() -> None:
    assert evenly(range(100), 4, seed=3) == [100 * i // 4 + evenly(range(100), 4, seed=3)[0] for i in range(4)]
    assert evenly("abc", 5, seed=0) == ["a", "b", "c"]


# --- what a disk may lose ---------------------------------------------------------------------

FOLDER, FILE, NEW = 0, 1, 2


def disk(*operations: Op) -> Platter:
    """A folder with the file `f`, and another file that is still without a name."""
    return Platter({FOLDER: {"f": FILE}}, {FILE: b"old", NEW: b""}, operations)


def op(at: int, kind: str, target: int = FILE, **rest: object) -> Op:
    return Op(at, at, kind, target, **rest)  # type: ignore[arg-type]  # fields of Op


def test_a_write_may_be_lost_until_its_own_file_is_synced() -> None:
    write = op(0, "write", data=b"new")
    assert disk(write).pending(1) == [0]
    assert disk(write, op(1, "sync", FOLDER)).pending(2) == [0]
    assert disk(write, op(1, "sync", FILE)).pending(2) == []
    assert disk(write, op(1, "sync", FILE)).pending(1) == [0], "cut before the sync had ended"


def test_a_sync_promises_nothing_about_a_write_that_was_still_going_on() -> None:
    write, sync = Op(1, 3, "write", FILE, data=b"new"), Op(2, 4, "sync", FILE)
    assert disk(write, sync).pending(2) == [0]


def test_a_write_is_torn_at_sectors_and_may_leave_its_size_alone() -> None:
    write = op(0, "write", offset=500, data=b"a" * 12 + b"b" * 512 + b"c")
    start_of_file = b"old" + bytes(497)
    assert disk(write).image(1, {0: 0b001}) == {"f": start_of_file + b"a" * 12}
    assert disk(write).image(1, {0: 0b010}) == {"f": start_of_file + bytes(12) + b"b" * 512}
    assert disk(write).image(1, {0: 0b1000}) == {"f": start_of_file + bytes(525)}
    assert disk(write).image(1, {0: 0}) == disk(write).image(1, {}) == {"f": b"old"}


def test_a_later_write_may_get_there_without_an_earlier_one() -> None:
    platter = disk(op(0, "truncate", offset=1), op(1, "write", offset=1, data=b"!"))
    assert [platter.image(2, {0: a, 1: b})["f"] for a in (False, True) for b in (False, True)] == [
        *(b"old", b"o!d"),
        *(b"o", b"o!"),
    ]


def test_the_name_of_a_new_file_is_its_folders_affair() -> None:
    made = (op(0, "bind", FOLDER, name="n", bound=NEW), op(1, "write", NEW, data=b"x"), op(2, "sync", NEW))
    assert disk(*made).pending(3) == [0]
    assert disk(*made, op(3, "sync", FOLDER)).pending(4) == []


def test_a_rename_leaves_the_old_file_or_the_new_one_and_never_none() -> None:
    bind = op(0, "bind", FOLDER, name="f", bound=NEW)
    unbind = op(0, "unbind", FOLDER, name="n", needs=0)
    named = Platter({FOLDER: {"f": FILE, "n": NEW}}, {FILE: b"old", NEW: b"new"}, [bind, unbind])
    images = [named.image(2, {0: a, 1: b}) for a in (False, True) for b in (False, True)]
    assert images == [
        {"f": b"old", "n": b"new"},
        {"f": b"new"},  # the loss of the old name brings the new one with it
        {"f": b"new", "n": b"new"},
        {"f": b"new"},
    ]


def test_an_image_becomes_a_folder(tmp_path: Path) -> None:
    lay({"d": None, "d/e": None, "d/e/f": b"x", "d.txt": b""}, tmp_path)
    assert (tmp_path / "d/e/f").read_bytes() == b"x" and (tmp_path / "d.txt").exists()


# --- what was written -------------------------------------------------------------------------

HEX = "".join(f"\\x{byte:02x}" for byte in b"data")


def hexed(path: object) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in str(path).encode()) + '"'


def test_a_call_that_another_thread_interrupts_is_put_together_again() -> None:
    trace = (
        f'7 write(3, "{HEX}", 4 <unfinished ...>\n8 fsync(4) = 0\n7 <... write resumed>) = 4\n7 +++ exited with 0 +++'
    )
    assert [(c.name, c.begin, c.end, c.result) for c in calls(trace)] == [("fsync", 1, 1, 0), ("write", 0, 2, 4)]


def test_a_recording_follows_descriptors_short_writes_and_failures(tmp_path: Path) -> None:
    trace = [
        f"7 openat(AT_FDCWD, {hexed(tmp_path / 'f')}, O_WRONLY|O_CREAT|O_EXCL, 0666) = 5",
        f'7 write(5, "{HEX}", 4) = 3',
        f'7 write(5, "{HEX}", 4) = -1 ENOSPC (No space left on device)',
        "7 fcntl(5, F_DUPFD_CLOEXEC, 0) = 6",
        "7 close(5) = 0",
        f'7 write(6, "{HEX}", 4) = 4',
        f'7 write(9, "{HEX}", 4) = 4',
        "7 fsync(6) = 0",
        f"7 rename({hexed(tmp_path / 'f')}, {hexed(tmp_path / 'g')}) = 0",
        f"7 unlink({hexed('/elsewhere')}) = 0",
    ]
    done = Recorder(tmp_path).follow("\n".join(trace))
    assert [(o.kind, o.name or o.data, o.offset) for o in done] == [
        ("bind", "f", 0),
        ("write", b"dat", 0),
        ("write", b"data", 3),
        ("sync", b"", 0),
        ("bind", "g", 0),
        ("unbind", "f", 0),
    ]
    assert done[-1].needs == 4


@pytest.mark.parametrize(
    "line",
    [
        "7 fallocate(5, 0, 0, 4) = 0",
        '7 writev(5, [{iov_base="\\x61", iov_len=1}], 1) = 1',
        "7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 5, 0) = 0x7f0000000000",
        f'7 write(5, "{HEX}", 4) = 4',  # where it writes is not known: the descriptor may have been read from
        "7 something that is no call",
    ],
)
def test_what_is_not_understood_ends_the_recording(tmp_path: Path, line: str) -> None:
    opening = f"7 openat(AT_FDCWD, {hexed(tmp_path / 'f')}, O_RDWR|O_CREAT, 0666) = 5\n"
    with pytest.raises(ValueError, match=r"understood|through memory"):
        Recorder(tmp_path).follow(opening + line)


@needs_strace
def test_a_power_cut_is_survived_and_its_marks_are_seen(home: Path, starts: Starts) -> None:
    recorded = record(JOB["invalidate"], starts, home)
    assert recorded.reported(len(recorded.platter.operations)) == 1
    distinct, found = replay([recorded], home, 90, seed=0)
    assert distinct == 90 and [bad for _, bad in found if bad] == []


@needs_strace
def test_a_power_cut_without_syncs_is_not_survived(home: Path, starts: Starts) -> None:
    recorded = record(JOB["invalidate"], starts, home, _never_synced)
    _, found = replay([recorded], home, 90, seed=0)
    assert any(line.startswith("lost: ") for _, bad in found for line in bad)
