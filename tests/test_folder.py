"""An instance in a folder: what becomes visible when, what is written again, and what a folder cannot make us do."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import artdag_fed
import tests.vectors.make_folder as made
from artdag_fed import (
    BundleError,
    Codec,
    CodecError,
    Federation,
    FederationError,
    InvalidName,
    Limits,
    Record,
    StoreError,
    TransportError,
    import_,
    invalidate,
    node,
    pull,
    run,
)
from artdag_fed.signing import hmac_signer, hmac_verifier
from artdag_fed.transports import folder as module
from artdag_fed.transports.folder import fetcher, publish


class Graded(NamedTuple):
    """A type of someone's own."""

    number: int
    gain: int


GRADED = Codec().with_type("graded", Graded, list, lambda pair: Graded(*pair))
KEY = b"a key that alice and bob share"
MANIFEST = "artdag-fed.json"


def everyone(peer: str) -> bool:
    return True


def fetched(path: Path, peer: str = "alice", **options: Any) -> Federation:
    return pull(Federation(), fetcher({peer: path}, **options), peer, everyone)


def files(path: Path, ending: str = "") -> dict[str, tuple[int, int]]:
    """Each file with what tells that it was written anew: its inode and time."""
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in path.iterdir() if p.name.endswith(ending)}


def manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / MANIFEST).read_bytes())


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = manifest(path)
    change(document)
    (path / MANIFEST).write_text(json.dumps(document))


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return tmp_path / "drive"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of at most four records."""
    monkeypatch.setattr(module, "SEGMENT_RECORDS", 4)


def alice(count: int = 10) -> Federation:
    return Federation({f"c{i}": f"result {i}" for i in range(count)})


# --- publishing -----------------------------------------------------------------------------


def test_what_was_published_is_what_is_fetched(make: Callable[[], Federation], drive: Path) -> None:
    fed = make()
    for i, value in enumerate([None, 1, "text", b"\0" * 100_000, [1.5], (1, 2)]):
        fed.cache[f"c{i}"] = value
    fed = run(fed, node("op@1", n=1), lambda op, inputs, params: "computed").federation
    fed = import_(fed, [Record("f1", 7, "carol", {"dave"})], everyone)
    assert publish(fed, "alice", drive) == 8
    got = list(fetcher({"alice": drive})("alice"))
    expected = list(artdag_fed.export(fed, "alice"))
    assert sorted(got, key=lambda r: r.cid) == sorted(expected, key=lambda r: r.cid)
    assert {r.cid: r.lineage for r in got}["f1"] == {"carol", "dave"}
    assert sum(bool(r.recipe) for r in got) == 1


def test_an_empty_instance_is_published_as_nothing(drive: Path) -> None:
    assert publish(Federation(), "alice", drive) == 0
    assert len(fetched(drive)) == 0


@pytest.mark.usefixtures("small")
def test_publishing_again_writes_nothing(make: Callable[[], Federation], drive: Path) -> None:
    fed = make()
    fed = import_(fed, [Record(f"c{i}", i, "carol", {"dave"}) for i in range(39)], everyone)
    fed = run(fed, node("op@1", n=1), lambda op, inputs, params: "computed").federation
    assert publish(fed, "alice", drive) == 40
    before = files(drive)
    assert publish(fed, "alice", drive) == 0
    assert files(drive) == before


@pytest.mark.usefixtures("small")
def test_publishing_again_writes_only_what_is_new(drive: Path) -> None:
    fed = alice(10)
    publish(fed, "alice", drive)
    before = files(drive, ".bundle")
    assert len(before) == 3
    fed.cache["new"] = "new"
    assert publish(fed, "alice", drive) == 1
    after = files(drive, ".bundle")
    assert len(after) == 4 and before.items() <= after.items()
    assert len(fetched(drive)) == 11


@pytest.mark.usefixtures("small")
def test_what_is_no_longer_held_is_not_offered_and_its_bytes_are_gone(drive: Path) -> None:
    fed = import_(alice(10), [Record("bad", "from mallory", "mallory")], everyone)
    assert publish(fed, "alice", drive) == 11
    before = files(drive, ".bundle")
    fed = invalidate(fed, "mallory")
    assert publish(fed, "alice", drive) == 0  # its neighbours are written again, but were offered before
    after = files(drive, ".bundle")
    assert len(after) == 3 and len(before.items() & after.items()) == 2
    assert sorted(fetched(drive)) == sorted(alice(10))
    assert not any(b"from mallory" in p.read_bytes() for p in drive.iterdir())


def test_a_result_that_changed_is_offered_anew(drive: Path) -> None:
    fed = alice(3)
    publish(fed, "alice", drive)
    fed.cache["c1"] = "other"
    assert publish(fed, "alice", drive) == 1
    assert (fetched(drive).cache["c1"], len(fetched(drive))) == ("other", 3)


def test_a_lineage_a_recipe_and_a_signature_that_changed_are_offered_anew(drive: Path) -> None:
    step = node("op@1")
    fed = import_(Federation(), [Record(step.cid, 1, "carol", {"dave"})], everyone)
    assert publish(fed, "alice", drive) == 1
    fed = invalidate(fed, "carol")
    fed = import_(fed, [Record(step.cid, 1, "carol")], everyone)
    assert publish(fed, "alice", drive) == 1
    fed = import_(invalidate(fed, "carol"), [Record(step.cid, 1, "carol", recipe=step.recipe)], everyone)
    assert publish(fed, "alice", drive) == 1
    assert publish(fed, "alice", drive, sign=hmac_signer(KEY)) == 1
    assert publish(fed, "alice", drive, sign=hmac_signer(KEY)) == 0
    assert publish(fed, "alice", drive) == 1
    [record] = fetcher({"alice": drive})("alice")
    assert (set(record.lineage), record.recipe, record.signature) == ({"carol"}, step.recipe, b"")


def test_what_is_not_trusted_is_not_published(drive: Path) -> None:
    fed = import_(alice(2), [Record("bad", 1, "mallory"), Record("worse", 1, "bob", {"mallory"})], everyone)
    assert publish(fed, "alice", drive, trusted=lambda peer: peer != "mallory") == 2
    assert sorted(fetched(drive)) == ["c0", "c1"]


def test_what_is_no_longer_trusted_is_not_offered_any_more(drive: Path) -> None:
    fed = import_(alice(2), [Record("bad", 1, "mallory")], everyone)
    assert publish(fed, "alice", drive) == 3
    assert publish(fed, "alice", drive, trusted=lambda peer: peer != "mallory") == 0
    assert sorted(fetched(drive)) == ["c0", "c1"]


def test_what_came_back_from_others_does_not_rest_on_its_own_peer(drive: Path) -> None:
    fed = import_(Federation(), [Record("c1", 1, "bob", {"alice"}), Record("c2", 2, "alice")], everyone)
    assert (publish(fed, "alice", drive), publish(fed, "alice", drive)) == (2, 0)
    assert {r.cid: set(r.lineage) for r in fetcher({"alice": drive})("alice")} == {"c1": {"bob"}, "c2": set()}


def test_everything_is_on_the_disk_before_something_names_it(drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut: each file is synced before it gets its name, and the folder before and after the manifest has."""
    trace, synced, real = list[str](), set[int](), {name: getattr(os, name) for name in ("fsync", "replace")}

    def fsync(fd: int) -> None:
        real["fsync"](fd)
        synced.add(os.fstat(fd).st_ino)
        trace.append("folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file")

    def replace(source: str, target: str, **options: Any) -> None:
        assert (drive / source).stat().st_ino in synced, target
        real["replace"](source, target, **options)
        trace.append(target[64:] if len(target) > 64 else target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    publish(alice(2), "alice", drive)
    expected = ["file", ".bundle", "file", ".index", "folder", "file", MANIFEST, "folder"]
    assert trace == expected


def test_signed_records_are_verified_by_whoever_pulls(drive: Path) -> None:
    publish(alice(3), "alice", drive, sign=hmac_signer(KEY))
    bob = pull(Federation(), fetcher({"m": drive}), "m", everyone, verify=hmac_verifier({"alice": KEY}))
    assert set(bob.provenance.values()) == {"alice"} and bob.report.admitted == 3


def test_many_small_segments_are_put_together(drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL_SEGMENTS", 5)
    fed = Federation()
    for i in range(13):
        fed.cache[f"c{i}"] = i
        assert publish(fed, "alice", drive) == 1
        assert len(files(drive, ".bundle")) <= 6
    assert len(fetched(drive)) == 13


def test_a_segment_is_bounded_in_bytes(drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 10_000)
    publish(Federation({f"c{i}": b"x" * 4000 for i in range(7)}), "alice", drive)
    assert [one["records"] for one in manifest(drive)["segments"]] == [3, 3, 1]


def test_a_segment_that_was_lost_or_damaged_is_written_again(drive: Path) -> None:
    fed = alice(3)
    publish(fed, "alice", drive)
    for ending in (".bundle", ".index"):
        for harm in (os.unlink, lambda name: os.truncate(name, 5)):
            [name] = files(drive, ending)
            harm(drive / name)
            publish(fed, "alice", drive)
            assert len(fetched(drive)) == 3


def test_a_folder_of_another_peer_is_refused(drive: Path) -> None:
    publish(alice(2), "alice", drive)
    before = files(drive)
    with pytest.raises(ValueError, match="is published by 'alice', not by 'bob'"):
        publish(alice(3), "bob", drive)
    assert files(drive) == before


def test_the_folder_of_an_instance_is_refused_and_left_as_it_is(drive: Path) -> None:
    fed = import_(artdag_fed.open(drive), [Record("c1", 1, "bob")], everyone)
    before = sorted(drive.rglob("*"))
    for one in (fed, alice(2)):
        with pytest.raises(ValueError, match=f"'{drive}' is an instance's own folder .*: choose another"):
            publish(one, "alice", drive)
    assert sorted(drive.rglob("*")) == before


def test_what_publish_did_not_make_is_left_alone(drive: Path) -> None:
    drive.mkdir()
    (drive / "README.txt").write_text("hello")
    (drive / "sub").mkdir()
    (drive / ("0" * 64 + ".bundle")).write_text("nobody names this")
    (drive / ".artdag-fed-0123456789abcdef").write_text("left behind by a crash")
    publish(alice(1), "alice", drive)
    assert {p.name for p in drive.iterdir() if len(p.name) < 64} == {"README.txt", "sub", MANIFEST, "artdag-fed.lock"}
    assert len(files(drive, ".bundle")) == 1 and len(fetched(drive)) == 1


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"artdag-fed folder": 2}', '{"name": "a web app"}', "\xff"])
def test_a_manifest_that_is_not_ours_is_not_written_over(drive: Path, text: str) -> None:
    drive.mkdir()
    (drive / MANIFEST).write_text(text, "latin-1")
    with pytest.raises(FederationError):
        publish(alice(1), "alice", drive)
    assert (drive / MANIFEST).read_text("latin-1") == text and not files(drive, ".bundle")


def test_wrong_arguments_are_refused_before_anything_is_written(drive: Path) -> None:
    with pytest.raises(InvalidName):
        publish(alice(), "a\nb", drive)
    with pytest.raises(TypeError):
        publish({}, "alice", drive)  # type: ignore[arg-type]
    assert not drive.exists()
    with pytest.raises(TransportError, match="No such file"):
        publish(alice(), "alice", drive / "deep" / "er")
    drive.write_text("a file")
    with pytest.raises(TransportError, match="Not a directory"):
        publish(alice(), "alice", drive)


def test_a_result_without_bytes_leaves_the_old_offer_and_no_litter(drive: Path) -> None:
    fed = alice(2)
    publish(fed, "alice", drive)
    before = set(files(drive))
    fed.cache["object"] = object()
    with pytest.raises(CodecError):
        publish(fed, "alice", drive)
    assert set(files(drive)) == before and len(fetched(drive)) == 2


def test_results_of_a_registered_type_are_decoded_by_the_codec_of_the_fetcher(drive: Path) -> None:
    publish(Federation(artdag_fed.MemoryCache({"c1": {"at": Graded(1, 2)}}, codec=GRADED)), "alice", drive)
    [record] = fetcher({"alice": drive}, codec=GRADED)("alice")
    assert record.result == {"at": Graded(1, 2)}
    [record] = fetcher({"alice": drive})("alice")
    with pytest.raises(CodecError):
        record.result  # noqa: B018  # decoded when it is asked for
    with pytest.raises(TypeError, match="codec must be a Codec, not str"):
        fetcher({"alice": drive}, codec="json")  # type: ignore[arg-type]  # wrongly


def test_results_of_a_registered_type_are_published_by_their_cache_s_codec(drive: Path, tmp_path: Path) -> None:
    class Point:
        pass

    codec = Codec().with_type("point", Point, lambda p: [], lambda _: Point())
    for count in (1, 0):
        fed = Federation(artdag_fed.MemoryCache({"c1": Point()}, codec=codec))
        assert publish(fed, "alice", drive) == count


# --- crashes, and others at the same time ----------------------------------------------------


def step(fed: Federation, i: int) -> Federation:
    """One of three kinds of change: something new, something changed, something withdrawn."""
    fed.cache[f"new{i}"] = f"new {i}"
    fed.cache["c1"] = f"changed {i}"
    return invalidate(fed, f"peer{i}")


def offered(path: Path) -> dict[str, Any]:
    got = fetched(path)
    return {cid: got.cache[cid] for cid in got}


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("after", [False, True], ids=["failing", "failing after it was done"])
def test_a_publisher_that_fails_at_any_call_leaves_the_old_offer_or_the_new_one(
    drive: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    fed = import_(alice(10), [Record(f"p{i}", i, f"peer{i}") for i in range(200)], everyone)
    publish(fed, "alice", drive)
    names = ("open", "replace", "fsync", "unlink", "listdir")
    real = {name: getattr(os, name) for name in names}
    at = failures = 0
    while True:
        fed = step(fed, at)
        calls = 0

        def failing(name: str, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at + 1:  # noqa: B023  # called in this round alone
                if after:
                    real[name](*args, **kwargs)
                raise OSError(errno.ENOSPC, "no space left")
            return real[name](*args, **kwargs)

        before, new = offered(drive), {cid: fed.cache[cid] for cid in fed}
        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(os, name, lambda *args, _name=name, **kwargs: failing(_name, *args, **kwargs))
            try:
                publish(fed, "alice", drive)
            except TransportError as error:
                assert "no space left" in str(error)
                failures += 1
        assert offered(drive) in (before, new), at
        if calls <= at:
            break
        at += 1
    assert offered(drive) == new and failures > 10
    named = {one["bundle"] + ".bundle" for one in manifest(drive)["segments"]}
    assert set(files(drive, ".bundle")) == named and not any(name.startswith(".") for name in files(drive))


def _killed_at(path: Path, at: int, seed: int) -> None:
    """A child that kills itself at its `at`-th system call that changes the folder, before or after it."""
    module.SEGMENT_RECORDS = 4
    left = at
    dice = random.Random(seed)

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0 and dice.random() < 0.5:
                os.kill(os.getpid(), signal.SIGKILL)
            done = real(*args, **kwargs)
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return call

    for name in ("open", "replace", "fsync", "unlink"):
        setattr(os, name, dying(getattr(os, name)))
    publish(Federation({f"c{i}": f"{seed}.{i}" for i in range(10)}), "alice", path)


def _killed_at_every_call(path: Path) -> None:
    """Publish again and again in a child that is killed one system call later each time, until one gets to its end."""
    module.SEGMENT_RECORDS = 4
    old = {f"c{i}": f"result {i}" for i in range(10)}
    publish(Federation(dict(old)), "alice", path)
    seen, at = set(), 0
    while (0, True) not in seen:
        child = os.fork()
        if not child:
            _killed_at(path, at, at)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        now, new = offered(path), {f"c{i}": f"{at}.{i}" for i in range(10)}
        assert now in (old, new), at
        seen.add((status, now == new))
        old, at = now, at + 1
    assert seen == {(-signal.SIGKILL, False), (-signal.SIGKILL, True), (0, True)} and at > 20, (seen, at)


def _publishing(path: Path, me: int, until: float) -> None:
    module.SEGMENT_RECORDS = 4
    i = 0
    while time.monotonic() < until or not i:
        i += 1
        publish(Federation({f"c{n}": f"{me}.{i}" for n in range(10)}), "alice", path)


def other_process(call: str) -> subprocess.Popen[str]:
    """A process of its own, without threads, that makes this call in this module."""
    root = Path(__file__).resolve().parent.parent
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"}
    script = f"from pathlib import Path; from tests import test_folder; test_folder.{call}"
    return subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("small")
def test_a_publisher_that_is_killed_leaves_the_old_offer_or_the_new_one(drive: Path) -> None:
    child = other_process(f"_killed_at_every_call(Path({str(drive)!r}))")
    assert (child.communicate(timeout=120)[1], child.returncode) == ("", 0)
    publish(alice(10), "alice", drive)
    named = {one["bundle"] + ".bundle" for one in manifest(drive)["segments"]}
    assert set(files(drive, ".bundle")) == named and not any(name.startswith(".") for name in files(drive))


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_two_publishers_and_readers_at_once_see_whole_offers_alone(drive: Path) -> None:
    publish(alice(10), "alice", drive)
    until = time.monotonic() + 3
    children = [other_process(f"_publishing(Path({str(drive)!r}), {me}, {until})") for me in range(2)]
    whole = missed = 0
    while any(child.poll() is None for child in children):
        try:
            values = {str(value).split(".")[0] + str(value).split(".")[-1] for value in offered(drive).values()}
            assert len(values) in (1, 10), values  # one offer, of one publisher
            whole += 1
        except TransportError as error:
            assert "try again" in str(error)
            missed += 1
    for child in children:
        assert (child.communicate()[1], child.returncode) == ("", 0)
    assert whole > 0 and len(set(offered(drive).values())) == 1


def test_where_files_cannot_be_locked_the_last_one_wins(drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    publish(alice(3), "alice", drive)
    (drive / ("0" * 64 + ".bundle")).write_text("what another one is about to name")
    assert publish(Federation({"c0": "other"}), "alice", drive) == 1
    assert offered(drive) == {"c0": "other"} and len(files(drive, ".bundle")) == 2


# --- fetching -------------------------------------------------------------------------------


def opened(monkeypatch: pytest.MonkeyPatch, what: Callable[[], object]) -> list[str]:
    """The names of the segments that are opened meanwhile."""
    names, real = list[str](), os.open

    def open_(name: Any, *args: Any, **kwargs: Any) -> int:
        names.append(str(name))
        return real(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_)
        what()
    return [name for name in names if name.endswith(".bundle")]


@pytest.mark.usefixtures("small")
def test_a_segment_of_which_all_is_known_is_not_read_again(drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed = alice(10)
    publish(fed, "alice", drive)
    bob = fetched(drive)
    fed.cache["new"] = 1
    publish(fed, "alice", drive)

    def again() -> None:
        nonlocal bob
        bob = pull(bob, fetcher({"alice": drive}, known=bob), "alice", everyone)

    assert len(opened(monkeypatch, again)) == 1
    assert (bob.report.admitted, bob.report.unchanged, len(bob)) == (1, 0, 11)
    assert opened(monkeypatch, again) == []
    assert len(opened(monkeypatch, lambda: fetched(drive, known={"c0", "c1", "c2"}))) == 4


def test_a_fetch_says_whether_it_leaves_things_out_and_what_is_offered(drive: Path) -> None:
    publish(alice(3), "alice", drive)
    fetch = fetcher({"alice": drive})
    assert (fetch.partial, fetcher({"alice": drive}, known=set()).partial) == (False, True)
    digest = Record("c1", "result 1", "alice").digest
    assert fetch.digests("alice", ["c1", "absent"]) == {"c1": digest}
    assert fetch.digests("alice", []) == {}


def test_a_folder_that_is_synced_half_is_told_apart_and_nothing_is_kept(drive: Path) -> None:
    publish(alice(3), "alice", drive)
    [bundle], [index] = files(drive, ".bundle"), files(drive, ".index")
    whole = {name: (drive / name).read_bytes() for name in (bundle, index, MANIFEST)}
    for name in (bundle, MANIFEST):
        for size in (None, 0, *([len(whole[name]) - 1] if name == bundle else [])):
            (drive / name).unlink() if size is None else (drive / name).write_bytes(whole[name][:size])
            bob = Federation({"mine": 1})
            with pytest.raises(TransportError, match="on its way"):
                pull(bob, fetcher({"alice": drive}), "alice", everyone)
            assert list(bob) == ["mine"]
            (drive / name).write_bytes(whole[name])
    (drive / index).unlink()
    assert len(fetched(drive)) == 3  # it is only needed for what is known
    with pytest.raises(TransportError, match="on its way"):
        fetched(drive, known={"c0"})


@pytest.mark.slow
def test_every_single_bit_flip_in_a_folder_is_refused(drive: Path) -> None:
    publish(alice(2), "alice", drive)
    expected = {cid: alice(2).cache[cid] for cid in alice(2)}
    for ending in (".bundle", ".index"):
        [name] = files(drive, ending)
        whole = (drive / name).read_bytes()
        for bit in range(8 * len(whole)):
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            (drive / name).write_bytes(changed)
            with pytest.raises(BundleError):
                fetched(drive, known={"c0"} if ending == ".index" else None)
        (drive / name).write_bytes(whole)
        assert offered(drive) == expected


def test_a_file_behind_its_bundle_is_refused(drive: Path) -> None:
    publish(alice(2), "alice", drive)
    [name] = files(drive, ".bundle")
    data = (drive / name).read_bytes() + b"more"
    digest = hashlib.sha256(data).hexdigest()
    (drive / f"{digest}.bundle").write_bytes(data)
    rewrite(drive, lambda document: document["segments"][0].update(bundle=digest, bytes=len(data)))
    with pytest.raises(BundleError):
        fetched(drive)


def _link(path: Path, target: Path) -> None:
    os.symlink(target, path)


def _socket(path: Path, _: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)  # a socket's path may only have a hundred characters
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("s")
        os.rename("s", path.name)
    finally:
        os.fchdir(here)
        os.close(here)


KINDS: dict[str, Callable[[Path, Path], object]] = {
    "a link to the same bytes": _link,
    "a pipe": lambda path, _: os.mkfifo(path),
    "a folder": lambda path, _: path.mkdir(),
    "a socket": _socket,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", [".bundle", ".index", MANIFEST])
def test_links_pipes_folders_and_sockets_are_refused_at_once(
    drive: Path, tmp_path: Path, kind: str, ending: str
) -> None:
    publish(alice(2), "alice", drive)
    [name] = files(drive, ending)
    aside = tmp_path / "aside"
    os.rename(drive / name, aside)
    KINDS[kind](drive / name, aside)
    began = time.monotonic()
    with pytest.raises(BundleError, match="regular file"):
        fetched(drive, known={"c0"})
    if ending == MANIFEST:
        with pytest.raises(BundleError, match="regular file"):
            publish(alice(3), "alice", drive)
    assert time.monotonic() - began < 5


def test_a_lock_that_is_a_link_is_not_followed(drive: Path, tmp_path: Path) -> None:
    drive.mkdir()
    os.symlink(tmp_path / "elsewhere", drive / "artdag-fed.lock")
    with pytest.raises(TransportError):
        publish(alice(1), "alice", drive)
    assert not (tmp_path / "elsewhere").exists()


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a path that leads outside": lambda d: d["segments"][0].update(bundle="../" + "0" * 61),
    "an absolute path": lambda d: d["segments"][0].update(index="/etc/passwd"),
    "upper-case digits": lambda d: d["segments"][0].update(bundle="A" * 64),
    "a digest with a line end": lambda d: d["segments"][0].update(bundle="0" * 64 + "\n"),
    "a number for a digest": lambda d: d["segments"][0].update(bundle=0),
    "a size below zero": lambda d: d["segments"][0].update(bytes=-1),
    "a size that is no integer": lambda d: d["segments"][0].update(bytes=1e3),
    "true for a number": lambda d: d["segments"][0].update(records=True),
    "no records": lambda d: d["segments"][0].update(records=0),
    "a segment twice": lambda d: d["segments"].append(d["segments"][0]),
    "a member too many": lambda d: d["segments"][0].update(more=1),
    "a member too few": lambda d: d["segments"][0].pop("index"),
    "segments that are no list": lambda d: d.update(segments={"0" * 64: 1}),
    "a segment that is a text": lambda d: d.update(segments=["0" * 64]),
    "a peer that is none": lambda d: d.update(peer="a\u202eb"),
    "something more": lambda d: d.update(more=1),
    "a version that is true": lambda d: d.update({"artdag-fed folder": True}),
    "another number of records": lambda d: d["segments"][0].update(records=1),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_manifest_that_lies_is_refused(drive: Path, hostile: str) -> None:
    publish(alice(2), "alice", drive)
    rewrite(drive, HOSTILE[hostile])
    with pytest.raises(BundleError):
        fetched(drive)


def test_a_manifest_with_a_key_twice_is_refused(drive: Path) -> None:
    publish(alice(2), "alice", drive)
    text = (drive / MANIFEST).read_text().rstrip()
    (drive / MANIFEST).write_text(text[:-1] + ', "segments": []}')
    with pytest.raises(BundleError):
        fetched(drive)


def test_a_manifest_of_a_newer_version_says_so(drive: Path) -> None:
    publish(alice(2), "alice", drive)
    rewrite(drive, lambda document: document.update({"artdag-fed folder": 2}))
    for call in (lambda: fetched(drive), lambda: publish(alice(3), "alice", drive)):
        with pytest.raises(BundleError, match="version 2, newer than 1"):
            call()


@pytest.mark.parametrize("text", ['{"a":1,"a":1}', "[" * 100_000, "1" * 5000, "NaN", b"\x80".decode("latin-1")])
def test_a_manifest_that_is_no_such_json_is_refused(drive: Path, text: str) -> None:
    drive.mkdir()
    (drive / MANIFEST).write_text(text, "latin-1")
    with pytest.raises(BundleError):
        fetched(drive)


def test_sizes_are_bounded_before_anything_is_read(drive: Path) -> None:
    publish(alice(10), "alice", drive)
    size = manifest(drive)["segments"][0]["bytes"]
    assert len(fetched(drive, limits=Limits(records=10, bytes=size))) == 10
    with pytest.raises(BundleError, match="records"):
        fetched(drive, limits=Limits(records=9))
    with pytest.raises(BundleError, match="bytes"):
        fetched(drive, limits=Limits(bytes=size - 1))
    with open(drive / MANIFEST, "r+b") as file:
        file.truncate(1 << 40)  # a file with a hole: it takes no room
    with pytest.raises(BundleError, match="more than 16,777,216 bytes"):
        fetched(drive)
    [index] = files(drive, ".index")
    publish(alice(10), "alice", drive.with_name("other"))
    os.truncate(drive.with_name("other") / index, 1 << 40)
    with pytest.raises(BundleError, match="too long for 10 records"):
        fetched(drive.with_name("other"), known=set())


@pytest.mark.usefixtures("small")
def test_the_limits_are_those_of_all_segments_together(drive: Path) -> None:
    publish(alice(10), "alice", drive)
    assert len(manifest(drive)["segments"]) == 3
    with pytest.raises(BundleError, match=r"Limits\.records"):
        fetched(drive, limits=Limits(records=9))
    total = sum(one["bytes"] for one in manifest(drive)["segments"])
    with pytest.raises(BundleError, match=r"Limits\.bytes"):
        fetched(drive, limits=Limits(bytes=total - 1))


@pytest.mark.parametrize(
    "text", ["", "c0 1 2\n", "c0 " + "0" * 64 + " " + "0" * 32, "\n\n", "é " + "0" * 64 + " " + "0" * 32 + "\n" * 2]
)
def test_an_index_that_is_none_is_refused(drive: Path, text: str) -> None:
    publish(alice(2), "alice", drive)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (drive / f"{digest}.index").write_text(text)
    rewrite(drive, lambda document: document["segments"][0].update(index=digest))
    with pytest.raises(BundleError):
        fetched(drive, known=set())


def test_what_cannot_be_reached_is_a_transport_error_that_names_it(drive: Path) -> None:
    with pytest.raises(TransportError, match="drive' could not be opened: No such file"):
        fetched(drive)
    with pytest.raises(TransportError, match="no folder is known for 'bob'"):
        fetcher({"alice": drive})("bob")
    drive.mkdir()
    with pytest.raises(TransportError, match="has no manifest"):
        fetched(drive)


def test_wrong_arguments_of_a_fetcher_are_refused_when_it_is_made(drive: Path) -> None:
    with pytest.raises(TypeError, match="mapping"):
        fetcher(drive)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="folders is empty"):
        fetcher({})
    with pytest.raises(InvalidName):
        fetcher({"a\nb": drive})
    with pytest.raises(TypeError, match="known"):
        fetcher({"alice": drive}, known=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="limits"):
        fetcher({"alice": drive}, limits=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        fetcher({"alice": 5})  # type: ignore[dict-item]


def test_a_reading_that_is_broken_off_leaves_no_file_open(drive: Path) -> None:
    publish(alice(3), "alice", drive)
    before = set(os.listdir("/proc/self/fd"))
    records: Iterator[Record] = iter(fetcher({"alice": drive})("alice"))
    next(records)
    records.close()  # type: ignore[attr-defined]  # it is a generator
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_store_that_fails_while_it_is_published_is_named_as_such(drive: Path, tmp_path: Path) -> None:
    fed = artdag_fed.open(tmp_path / "alice")
    fed.cache["c1"] = 1
    fed.cache.close()  # type: ignore[attr-defined]
    with pytest.raises(StoreError):
        publish(fed, "alice", drive)


# --- vectors ---------------------------------------------------------------------------------

VECTORS = Path(__file__).parent / "vectors"


def test_the_folder_beside_the_tests_is_what_the_page_about_it_says() -> None:
    """By the words of docs/wire-format.md alone, apart from the bundles, which have vectors of their own."""
    path, described = VECTORS / "folder-v1", json.loads((VECTORS / "folder.json").read_text("ascii"))
    document = json.loads((path / MANIFEST).read_text("utf-8"))
    assert document.keys() == {"artdag-fed folder", "peer", "segments"}
    assert (document["artdag-fed folder"], document["peer"]) == (1, described["peer"])
    lines, names = [], {MANIFEST}
    for segment in document["segments"]:
        assert segment.keys() == {"bundle", "bytes", "records", "index"}
        bundle = (path / f"{segment['bundle']}.bundle").read_bytes()
        index = (path / f"{segment['index']}.index").read_bytes()
        assert hashlib.sha256(bundle).hexdigest() == segment["bundle"] and len(bundle) == segment["bytes"]
        assert hashlib.sha256(index).hexdigest() == segment["index"]
        assert index.count(b"\n") == segment["records"] and index.endswith(b"\n")
        lines += index.decode("ascii").splitlines()
        names |= {f"{segment['bundle']}.bundle", f"{segment['index']}.index"}
    assert {file.name for file in path.iterdir()} == names and len(document["segments"]) == 2
    for line, record in zip(lines, described["records"], strict=True):
        text = "\n".join(["artdag-fed claim v1", f"{record['recipe']:d}{record['signed']:d}", *record["lineage"]])
        claim = hashlib.sha256(text.encode()).hexdigest()[:32]
        assert claim == record["claim"] and line == f"{record['cid']} {record['digest']} {claim}"


def test_the_folder_beside_the_tests_is_read_as_described_and_written_again_byte_by_byte(drive: Path) -> None:
    path, described = VECTORS / "folder-v1", json.loads((VECTORS / "folder.json").read_text("ascii"))
    assert made.described(path) == described
    verify = hmac_verifier({"alice": bytes.fromhex(described["hmac_sha256_key"])})
    fed = pull(Federation(), fetcher({"alice": path}), "alice", everyone, verify=verify)
    assert fed.report.admitted == len(described["records"]) == 4
    assert fed.cache["free-form"] == "text ä" and fed.lineage["from-bob"] == {"bob", "@studio@artdag.example"}
    made.published(drive)
    assert {f.name: f.read_bytes() for f in drive.iterdir()} == {f.name: f.read_bytes() for f in path.iterdir()}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_a_manifest_is_utf_8_and_nothing_else(drive: Path, encoding: str) -> None:
    made.published(drive)
    (drive / MANIFEST).write_text((drive / MANIFEST).read_text("ascii"), encoding)
    with pytest.raises(BundleError, match="is no manifest of a published folder"):
        fetched(drive)
