"""The command line: what each command says, in which stream, and how it ends; in this process where that will do.

Rules: `call` runs `main` with its streams captured; every error is one line that begins with the program's name, and
no test lets a traceback pass. Real processes are for what only they have: pipes, signals, a full disk.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import artdag_fed
from artdag_fed import Federation, Record, export, hmac_signer, import_, node, write_bundle
from artdag_fed.__main__ import main
from artdag_fed.cache import Changes, Entry, Origin
from artdag_fed.cli_arguments import PULL_TOKEN, SERVE_TOKEN
from artdag_fed.instance import cache_of
from artdag_fed.transports import folder, http
from tests.http_servers import serving

SRC = Path(__file__).resolve().parent.parent / "src"
NODE = node("load@1", n=1)
KEY = b"32 random bytes, known to both ."
TRUST = ["--trust", "alice"]


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Said]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs the command line in an empty folder, and holds it to its promises."""
    monkeypatch.chdir(tmp_path)
    for variable in (PULL_TOKEN, SERVE_TOKEN):
        monkeypatch.delenv(variable, raising=False)

    def call(*argv: str) -> Said:
        said = Said(main(argv), *capfd.readouterr())
        for line in said.err.splitlines():
            assert line.startswith("artdag_fed: ") and line.isprintable(), said.err
        assert said.out.isascii() and all(line.isprintable() for line in said.out.splitlines()), said.out
        assert bool(said.err) == (said.code != 0), said
        return said

    return call


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance: one result that took 2.5 s, one put there, one that came from bob and rests on carol."""
    path = tmp_path_factory.mktemp("template") / "alice"
    fed = artdag_fed.open(path)
    made = Record(NODE.cid, [1], "alice")
    entry = Entry(NODE.cid, Origin(None), made.digest, made.payload, None, False, NODE.recipe, seconds=2.5)
    cache_of(fed).commit(Changes(put=cache_of(fed).stage([entry])))
    fed.cache["frame"] = b"pixels" * 10_000
    fed = import_(fed, [Record("grade", 0.5, "bob", lineage=frozenset({"carol"}))], {"bob"}.__contains__)
    fed.cache.close()  # type: ignore[attr-defined]  # it has one
    return path


@pytest.fixture
def alice(call: Call, template: Path) -> Federation:
    """A copy of that one, in the folder `alice`."""
    return artdag_fed.open(shutil.copytree(template, "alice"))


@pytest.fixture
def bundle(alice: Federation) -> str:
    """A bundle file of three records of alice's."""
    with open("alice.bundle", "wb") as file:
        write_bundle(file, export(alice, "alice"))
    return "alice.bundle"


def written(name: str, *records: Record) -> str:
    with open(name, "wb") as file:
        write_bundle(file, records)
    return name


def refused(said: Said, code: int, *words: str) -> None:
    """It said nothing but one line, with these words, and ended so."""
    assert (said.code, said.out, said.err.count("\n")) == (code, "", 1), said
    assert all(word in said.err for word in words), said.err


# --- looking ----------------------------------------------------------------------------------


def test_info_says_what_is_held_and_from_whom(call: Call, alice: Federation) -> None:
    said = call("info", "alice")
    assert said.out.splitlines() == [
        "'alice': 3 results, 60,009 bytes, 2.5 s to compute",
        "  2 computed here",
        "  1 from 'bob'",
        "  1 resting on 'carol'",
    ]
    told = call("info", "alice", "--json").json
    assert (told["cache"], told["results"], told["bytes"]) == ("alice", 3, 60_009)
    origins = {(origin["peer"], *origin["lineage"]): origin for origin in told["origins"]}
    assert {key: origin["results"] for key, origin in origins.items()} == {(None,): 2, ("bob", "carol"): 1}
    assert origins[None,]["bytes"] == 60_005 and origins[None,]["seconds"] == told["seconds"] == 2.5


def test_info_tells_people_of_some_peers_and_programs_of_all(call: Call, alice: Federation) -> None:
    import_(alice, [Record(f"c{n}", n, f"peer-{n}") for n in range(30)], lambda peer: True)
    assert "  and more from 11 other peers\n" in call("info", "alice").out
    assert len(call("info", "alice", "--json").json["origins"]) == 32


def test_ls_lists_results_with_their_op_and_origin(call: Call, alice: Federation) -> None:
    said = call("ls", "alice")
    assert said.out.splitlines() == [
        f"{NODE.cid}  4 bytes  load@1  computed here",
        "frame  60,001 bytes  -  computed here",
        "grade  4 bytes  -  from 'bob', resting on 'carol'",
    ]
    told = call("ls", "alice", "--json").json
    assert told["count"] == 3 and {result["op"] for result in told["results"]} == {"load@1", None}
    assert all(len(result["digest"]) == 64 for result in told["results"])
    assert [(result["bytes"], result["seconds"]) for result in told["results"]] == [(4, 2.5), (60_001, 0.0), (4, 0.0)]


def test_ls_can_be_narrowed_by_origin(call: Call, alice: Federation) -> None:
    for arguments, cids in (
        (["--local"], {NODE.cid, "frame"}),
        (["--from", "bob"], {"grade"}),
        (["--from", "carol"], set()),
        (["--resting-on", "carol"], {"grade"}),
        (["--resting-on", "bob"], {"grade"}),
    ):
        told = call("ls", "alice", "--json", *arguments).json
        assert {result["cid"] for result in told["results"]} == cids and told["count"] == len(cids), arguments


def test_an_empty_listing_is_a_document_too(call: Call, alice: Federation) -> None:
    assert call("ls", "alice", "--from", "nobody", "--json").json == {"results": [], "count": 0}
    assert call("check", "alice", "--json").json["faults"] == []


@pytest.mark.parametrize("command", ["info", "ls", "check", "export", "invalidate", "serve"])
def test_a_folder_that_is_no_instance_is_refused_and_left_as_it_is(call: Call, command: str) -> None:
    rest = {"export": ["out", "--as", "alice"], "invalidate": ["alice"], "serve": ["--as", "alice"]}.get(command, [])
    os.mkdir("empty")
    Path("film.mov").write_bytes(b"frames")
    refused(call(command, "empty", *rest), 3, "'empty' is no instance: it has no index.sqlite3")
    refused(call(command, "film.mov", *rest), 3, "'film.mov' is no instance: it is a file")
    refused(call(command, "typo", *rest), 3, "'typo' is no instance: nothing is there")
    assert sorted(os.listdir()) == ["empty", "film.mov"] and os.listdir("empty") == []


def test_a_folder_that_one_may_not_enter_is_said_to_be_one(
    call: Call, bundle: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.children import Child

    for parent in [tmp_path, *tmp_path.parents[:-2]]:
        parent.chmod(0o755)
    os.mkdir("locked", 0o000)

    def as_nobody() -> list[int]:
        if os.getuid() == 0:
            os.setuid(65534)
        asked = (["info", "locked"], ["import", "locked", bundle, *TRUST], ["import", "new", bundle, *TRUST])
        return [main(argv) for argv in asked]

    os.chmod(tmp_path, 0o555)
    try:
        assert Child(as_nobody).result() == [3, 3, 3]
    finally:
        os.chmod(tmp_path, 0o755)
    assert capfd.readouterr().err.splitlines() == [
        "artdag_fed: 'locked' cannot be looked into: Permission denied",
        "artdag_fed: 'locked' cannot be looked into: Permission denied",
        f"artdag_fed: {tmp_path}/new cannot be made a cache: Permission denied",
    ]


def test_another_programs_database_is_refused(call: Call) -> None:
    os.mkdir("photos")
    Path("photos", "index.sqlite3").write_bytes(b"SQLite format 3\0" + bytes(84))
    refused(call("info", "photos"), 3, "belongs to another program")


# --- export and import ------------------------------------------------------------------------


def test_what_is_exported_can_be_imported(call: Call, alice: Federation) -> None:
    said = call("export", "alice", "out.bundle", "--as", "alice", "--json")
    assert said.json == {"cache": "alice", "bundle": "out.bundle", "peer": "alice", "records": 3, "missing": []}
    said = call("import", "dora", "out.bundle", *TRUST)
    assert said.out.splitlines() == [
        "3 results kept in 'dora', a new instance; 0 held already",
        "  1 resting on 'bob'",
        "  1 resting on 'carol'",
    ]
    told = call("import", "dora", "out.bundle", *TRUST, "--json").json
    assert (told["admitted"], told["unchanged"], told["new"], told["rejected"]) == (0, 3, False, {})
    assert dict(artdag_fed.open("dora").provenance.items()) == dict.fromkeys([NODE.cid, "frame", "grade"], "alice")


def test_export_can_be_narrowed(call: Call, alice: Federation) -> None:
    for arguments, count in (
        (["--own"], 2),
        (["--trust", "bob"], 2),
        (["--trust", "bob", "--trust", "carol"], 3),
        (["--cid", "frame", "--cid", NODE.cid], 2),
    ):
        assert call("export", "alice", "out", "--as", "alice", "--json", *arguments).json["records"] == count, arguments
    refused(call("export", "alice", "out", "--as", "alice", "--own", "--trust", "bob"), 2, "not allowed")


def test_what_was_asked_for_and_is_not_held_is_said(call: Call, alice: Federation) -> None:
    said = call("export", "alice", "out", "--as", "alice", "--cid", "frame", "--cid", "lost")
    assert (said.code, said.out) == (1, "1 record of 'alice' written to 'out'\n")
    assert said.err == "artdag_fed: 1 result not held, and left out: 'lost'\n"


def test_a_damaged_result_is_left_out_and_said(call: Call, alice: Federation) -> None:
    [blob] = [path for path in Path("alice", "blobs").iterdir() if path.is_file()]
    blob.write_bytes(b"x" * blob.stat().st_size)
    said = call("export", "alice", "out", "--as", "alice")
    assert said.code == 1 and said.out.startswith("2 records") and "'frame' is not used" in said.err


@pytest.mark.parametrize("failing", ["write_bundle", "os.replace"])
def test_an_export_that_fails_leaves_the_old_file_and_nothing_else(
    call: Call, bundle: str, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, there = Path(bundle).read_bytes(), os.listdir()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"artdag_fed.cli_commands.{failing}" if failing == "write_bundle" else failing, full)
    refused(call("export", "alice", bundle, "--as", "alice"), 3, "'alice.bundle' cannot be written: No space left")
    assert Path(bundle).read_bytes() == before and os.listdir() == there


def test_export_writes_through_a_link_and_into_what_is_no_file(call: Call, alice: Federation) -> None:
    os.symlink("real.bundle", "link.bundle")
    assert call("export", "alice", "link.bundle", "--as", "alice").code == 0
    assert os.path.islink("link.bundle") and os.path.getsize("real.bundle") > 60_000
    os.mkfifo("pipe")  # and no device of the system's: who breaks this, as root, would replace it by a file
    with open(os.open("pipe", os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        assert call("export", "alice", "pipe", "--as", "alice", "--cid", "grade").code == 0
        assert reader.read().startswith(b"artdag-fed bundle")
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)
    refused(call("export", "alice", "alice", "--as", "alice"), 3, "'alice' cannot be written: Is a directory")
    refused(call("export", "alice", "no/such/folder", "--as", "alice"), 3, "No such file")


@pytest.mark.parametrize("there", [KEY, b"artdag-fed bundle", b"\n"])
def test_export_replaces_no_file_that_is_no_bundle(call: Call, alice: Federation, there: bytes) -> None:
    Path("alice.key").write_bytes(there)
    os.symlink("alice.key", "link")
    for name in ("alice.key", "link"):
        said = call("export", "alice", name, "--as", "alice")
        refused(said, 3, f"'{name}' cannot be written: it is there already and is no bundle")
    assert Path("alice.key").read_bytes() == there and sorted(os.listdir()) == ["alice", "alice.key", "link"]


def test_export_replaces_an_older_bundle_or_an_empty_file(call: Call, bundle: str) -> None:
    Path("empty").write_bytes(b"")
    for name in (bundle, "empty"):
        assert call("export", "alice", name, "--as", "alice", "--cid", "grade").code == 0
        assert 0 < os.path.getsize(name) < 1000


def test_export_to_the_standard_output_is_the_bundle_alone(call: Call, alice: Federation) -> None:
    refused(call("export", "alice", "-", "--as", "alice", "--json"), 2, "cannot both go")


@pytest.mark.parametrize(
    "arguments", [["--as", "mallory\x1b[31m"], ["--as", "a\udcff"], ["--as", "a", "--cid", "-x"], []]
)
def test_names_are_looked_at_before_anything_is_opened(call: Call, arguments: list[str]) -> None:
    refused(call("export", "typo", "out", *arguments), 2)
    assert os.listdir() == []


def test_a_record_that_is_refused_is_one_line_and_the_rest_is_kept(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as careless:  # a peer may write what this library does not
        careless.setattr("artdag_fed.bundle_header._check_cids", lambda cids: None)
        records = Record("c1", 1, "mallory"), Record("c2", 2, "alice"), Record("c\x1b[31m", 3, "alice")
        name = written("mixed", *records)
    said = call("import", "dora", name, *TRUST)
    assert (said.code, said.out) == (1, "1 result kept in 'dora', a new instance; 0 held already\n")
    assert said.err == "artdag_fed: 2 records refused: 1 malformed ('c\\x1b[31m'), 1 untrusted (c1)\n"
    told = call("import", "dora", name, *TRUST, "--json")
    assert told.code == 1 and told.json["rejected"] == {"malformed": 1, "untrusted": 1}
    assert told.json["examples"]["malformed"] == ["c\x1b[31m"]


def test_of_many_refused_records_some_are_named(call: Call) -> None:
    said = call("import", "dora", written("many", *(Record(f"c{n}", n, "mallory") for n in range(9))), *TRUST)
    assert said.err == "artdag_fed: 9 records refused: 9 untrusted (c0, c1, c2, ...)\n"


def test_a_result_that_differs_from_the_held_one_is_said(call: Call, alice: Federation) -> None:
    said = call("import", "alice", written("other", Record("frame", "other pixels", "dora")), "--trust", "dora")
    assert (said.code, said.err) == (1, "artdag_fed: 1 record not kept: another result is held, and stays\n")
    assert "frame" not in artdag_fed.open("alice").provenance


def test_with_a_key_only_what_is_signed_counts(call: Call, bundle: str) -> None:
    Path("key").write_bytes(KEY)
    Path("other.key").write_bytes(KEY[::-1])
    assert call("export", "alice", "signed", "--as", "alice", "--key-file", "key").code == 0
    assert call("import", "dora", "signed", *TRUST, "--key", "alice=key").code == 0
    assert "3 unsigned" in call("import", "emil", bundle, *TRUST, "--key", "alice=key").err
    assert "3 forged" in call("import", "emil", "signed", *TRUST, "--key", "alice=other.key").err
    assert "3 forged" in call("import", "emil", "signed", *TRUST, "--key", "bob=key").err
    assert len(artdag_fed.open("emil")) == 0


@pytest.mark.parametrize("key", ["alice", "alice=", "=key", "a\x00b=key", "alice=short", "alice=/dev/zero"])
def test_what_is_no_key_is_wrong_usage_and_never_printed(call: Call, bundle: str, key: str) -> None:
    Path("short").write_bytes(b"s3cret")
    said = call("import", "dora", bundle, *TRUST, "--key", key)
    refused(said, 2)
    assert "s3cret" not in said.err and not os.path.exists("dora")


def test_a_key_file_that_is_too_short_is_named(call: Call, bundle: str) -> None:
    Path("short").write_bytes(b"s3cret")
    refused(
        call("import", "dora", bundle, *TRUST, "--key", "alice=short"), 2, "artdag_fed: 'short': the key has 6 bytes"
    )
    refused(call("export", "alice", "out", "--as", "alice", "--key-file", "short"), 2, "'short': the key has 6 bytes")


def test_a_key_file_that_is_not_there_is_named(call: Call, bundle: str) -> None:
    refused(call("import", "dora", bundle, *TRUST, "--key", "alice=nowhere"), 3, "'nowhere': No such file")


def test_import_wants_someone_to_be_trusted(call: Call, bundle: str) -> None:
    refused(call("import", "dora", bundle), 2, "--trust")
    refused(call("import", "dora", bundle, "--trust", ""), 2, "no peer name")
    refused(call("pull", "dora", "alice", "alice"), 2, "--trust")


def test_a_bundle_that_is_none_makes_no_instance_and_changes_none(call: Call, bundle: str) -> None:
    data = Path(bundle).read_bytes()
    Path("cut").write_bytes(data[: len(data) // 2])
    Path("flipped").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    Path("foreign").write_bytes(b"\x1b[31m%PDF-1.7 ...........................")
    Path("empty").write_bytes(b"")
    for name, words in (("foreign", "no bundle: it begins with"), ("empty", "no bundle"), ("nowhere", "No such file")):
        refused(call("import", "dora", name, *TRUST), 3, f"artdag_fed: '{name}': ", words)
    refused(call("import", "dora", "alice", *TRUST), 3, "'alice': Is a directory")
    assert not os.path.exists("dora")
    for name, words in (("cut", "cut off"), ("flipped", "altered")):
        refused(call("import", "dora", name, *TRUST), 3, f"artdag_fed: '{name}': the bundle", words)
    assert len(artdag_fed.open("dora")) == 0


def test_import_refuses_folders_that_cannot_be_an_instance(call: Call, bundle: str) -> None:
    os.mkdir("photos")
    Path("photos", "1.jpg").write_bytes(b"...")
    refused(call("import", "photos", bundle, *TRUST), 3, "other things in it")
    refused(call("import", "no/parent", bundle, *TRUST), 3, "its parent")
    refused(call("import", "/proc/dora", bundle, *TRUST), 3, "/proc/dora")
    assert os.listdir("photos") == ["1.jpg"]


def test_an_empty_path_is_not_the_current_folder(call: Call, bundle: str) -> None:
    before = sorted(os.listdir())
    os.mkdir("empty")
    os.chdir("empty")
    for argv in (["import", "", f"../{bundle}", *TRUST], ["info", ""], ["serve", "", "--as", "alice"]):
        refused(call(*argv), 2, "an empty text is no folder")
    assert os.listdir() == []
    os.chdir("..")
    assert sorted(os.listdir()) == sorted([*before, "empty"])


def test_a_bundle_that_breaks_off_leaves_at_most_a_new_instance_with_nothing_in_it(call: Call, bundle: str) -> None:
    Path("cut").write_bytes(Path(bundle).read_bytes()[:-1])
    refused(call("import", "dora", "cut", *TRUST), 3, "cut off")
    assert call("info", "dora", "--json").json["results"] == 0
    assert call("check", "dora").code == 0


def test_hostile_names_in_an_instance_reach_no_terminal(call: Call) -> None:
    recipe = node("\x1b]0;owned\x07\u202e" * 3, n=1)
    peer = "\N{CYRILLIC SMALL LETTER A}lice\N{HANGUL FILLER}"
    written("in", Record(recipe.cid, 1, peer, recipe=recipe.recipe, lineage=frozenset({"z" + peer})))
    call("import", "dora", "in", "--trust", peer)
    for command in (["info", "dora"], ["ls", "dora"], ["check", "dora"], ["invalidate", "dora", peer]):
        for more in ([], ["--json"]):
            assert call(*command, *more).code == 0  # which looks at what was said, too
    assert call("ls", "dora", "--json").json["count"] == 0


# --- pull and serve ---------------------------------------------------------------------------


def test_pull_fetches_from_a_folder(call: Call, alice: Federation) -> None:
    folder.publish(alice, "alice", "drive", sign=hmac_signer(KEY))
    Path("key").write_bytes(KEY)
    said = call("pull", "dora", "alice", "drive", *TRUST, "--key", "alice=key")
    assert said.out.startswith("3 results kept in 'dora', a new instance; 0 held already\n")
    assert "3 mislabelled" in call("pull", "emil", "mallory", "drive", "--trust", "mallory").err
    refused(call("pull", "fay", "alice", "nowhere", *TRUST), 3, "'nowhere'")
    refused(call("pull", "fay", "alice", "drive", *TRUST, "--deadline", "5"), 2, "is a folder")
    assert not os.path.exists("fay")


def test_pull_fetches_from_a_url_with_a_token_from_a_file_or_the_environment(
    call: Call, alice: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("token").write_text("s3cret\n")
    Path("bad").write_text("not a token")
    with serving(http.app(alice, "alice", authorize=lambda token: token == "s3cret")) as server:
        pull = ("pull", "dora", "alice", server.url, *TRUST)
        refused(call(*pull), 3, "401")
        refused(call(*pull, "--token-file", "bad"), 2, "what is in 'bad' is no token")
        refused(call(*pull, "--token-file", "nowhere"), 3, "'nowhere'")
        assert not os.path.exists("dora")
        assert call(*pull, "--token-file", "token").code == 0
        monkeypatch.setenv(SERVE_TOKEN, "s3cret")  # one's own is not for others
        refused(call(*pull), 3, "401")
        monkeypatch.setenv(PULL_TOKEN, "s3cret")
        assert "3 held already" in call(*pull, "--deadline", "30").out
    refused(call(*pull), 3, "refused")
    refused(call("pull", "dora", "alice", "http://example.test", *TRUST), 2, "in the open")
    refused(call("pull", "dora", "alice", "gopher://example.test", *TRUST), 2, "only http and https")
    for seconds in ("0", "-1", "nan", "inf", "soon"):
        refused(call("pull", "dora", "alice", server.url, *TRUST, f"--deadline={seconds}"), 2, "no number of seconds")


def test_pull_says_how_its_arguments_go_where_they_were_swapped(call: Call, alice: Federation) -> None:
    url = "http://127.0.0.1:8000"
    hint = "the peer comes first, then where it is: pull dora alice http://127.0.0.1:8000"
    refused(call("pull", "dora", url, "alice", *TRUST), 3, "'alice' has no manifest", hint)
    refused(call("pull", "dora", url, "alice", *TRUST, "--deadline", "5"), 2, "'alice' is a folder", hint)
    folder.publish(alice, url, "drive")  # which may be a peer's name
    assert call("pull", "dora", url, "drive", "--trust", url).code == 0


def test_pull_says_how_a_url_begins_where_no_folder_is(call: Call, alice: Federation) -> None:
    for source in ("127.0.0.1:8000", "alice.example/results"):
        refused(
            call("pull", "dora", "alice", source, *TRUST), 3, f"'{source}'", "a URL begins with http:// or https://"
        )
    said = call("pull", "dora", "alice", "alice", *TRUST)
    assert "has no manifest" in said.err and "http" not in said.err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.test"])
def test_serve_wants_a_token_where_others_can_reach_it(
    call: Call, alice: Federation, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(call("serve", "alice", "--as", "alice", f"--host={host}"), 2, "so a token is needed")
    monkeypatch.setenv(SERVE_TOKEN, "")
    refused(call("serve", "alice", "--as", "alice", f"--host={host}"), 2, "is no token")


def test_serve_says_what_is_wrong_with_its_arguments(call: Call, alice: Federation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(call("serve", "alice", "--as", "alice", f"--port={port}"), 3, f"'127.0.0.1', port {port}", "in use")
    for port in ("65536", "-1", "http", "\u0663"):
        refused(call("serve", "alice", "--as", "alice", f"--port={port}"), 2, "no port")
    Path("token").write_text("x")
    elsewhere = ("serve", "alice", "--as", "alice", "--token-file", "token", "--port=0")
    refused(call(*elsewhere, "--host", "192.0.2.1"), 3, "cannot listen")
    refused(call(*elsewhere, "--host", "x" * 70 + ".test"), 3, "cannot listen")


# --- invalidate and check ---------------------------------------------------------------------


def test_invalidate_drops_what_came_from_a_peer_and_says_what_rests_on_it(call: Call, alice: Federation) -> None:
    said = call("invalidate", "alice", "carol")
    assert said.out == "0 results from 'carol' dropped; 1 that rest on it stay\n"
    assert call("invalidate", "alice", "carol", "--derived", "--json").json == {
        "cache": "alice",
        "peer": "carol",
        "dropped": 1,
        "resting_on": 0,
        "peers": [],
    }
    assert len(alice) == 2
    assert call("invalidate", "alice", "carol").out == (
        "nothing in 'alice' is from or rests on 'carol'; it has nothing of any peer's\n"
    )


def test_invalidate_says_which_peers_there_are_where_it_found_nothing(call: Call, alice: Federation) -> None:
    for argv in (["Bob"], ["Bob", "--derived"]):
        said = call("invalidate", "alice", *argv)
        assert (said.code, said.out) == (
            0,
            "nothing in 'alice' is from or rests on 'Bob'; its peers are 'bob', 'carol'\n",
        )
    peers = [f"peer-{n}" for n in (3, 2, 1)]
    import_(alice, [Record(f"{peer}.{n}", n, peer) for peer in peers for n in range(int(peer[-1]))], lambda peer: True)
    assert call("invalidate", "alice", "Bob").out.endswith("its peers are 'peer-3', 'peer-2', 'bob' and 2 more\n")
    told = call("invalidate", "alice", "Bob", "--json").json
    assert (told["dropped"], told["resting_on"]) == (0, 0)
    assert told["peers"] == ["peer-3", "peer-2", "bob", "carol", "peer-1"]


def test_check_tells_of_faults_and_drops_them_when_asked(call: Call, alice: Federation) -> None:
    assert call("check", "alice").out.endswith("3 results, 60,009 bytes, 1 file: 0 faults\n")
    Path("alice", "blobs", "x\x1b[31m\udcff").write_bytes(b"")
    [blob] = [path for path in Path("alice", "blobs").iterdir() if len(path.name) == 64]
    blob.unlink()
    said = call("check", "alice")
    assert "file      frame  its file is gone\n" in said.out and "stranger  'x\\x1b[31m\\udcff'" in said.out
    assert (said.code, said.err) == (1, "artdag_fed: 2 faults found in 'alice', 2 left; --drop drops what fails\n")
    told = call("check", "alice", "--json", "--drop")
    assert (told.code, told.json["dropped"], told.json["results"]) == (1, 1, 3)
    assert {(fault["kind"], fault["dropped"]) for fault in told.json["faults"]} == {("file", True), ("stranger", False)}
    assert "frame" not in alice and len(alice) == 2


# --- usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [[], ["fly"], ["info"], ["info", "a", "b"], ["ls", "--js", "a"], ["info", "a", "\x1b[31m\udcff"], ["\u202e"]],
)
def test_wrong_usage_is_one_line(call: Call, argv: list[str]) -> None:
    refused(call(*argv), 2, "--help")


def test_help_is_there_for_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in ("info", "ls", "export", "import", "pull", "invalidate", "check", "serve"):
        assert re.search(rf"^    {command}\s", text, re.MULTILINE)
        assert main([command, "--help"]) == 0
        assert "exit codes: 0 done" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"artdag_fed {artdag_fed.__version__}\n"


def test_something_unforeseen_is_one_line_too(call: Call, alice: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    def surprise(*_: Any) -> None:
        raise LookupError("a\nb")

    monkeypatch.setattr("artdag_fed.cli_commands.cache_of", surprise)
    refused(call("info", "alice"), 3, "unforeseen: LookupError: a\\nb (python -X dev")


def test_the_librarys_log_is_left_as_it_was(call: Call, alice: Federation) -> None:
    import logging

    before = list(logging.getLogger("artdag_fed").handlers)
    call("info", "alice")
    call("info", "typo")
    assert logging.getLogger("artdag_fed").handlers == before


# --- real processes ---------------------------------------------------------------------------


def process(*argv: str | bytes, stdin: int | None = None, stdout: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "artdag_fed", *argv]
    return subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(SRC)}, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE
    )


@pytest.fixture
def serve(alice: Federation) -> Iterator[subprocess.Popen[bytes]]:
    Path("token").write_text("s3cret")
    with process("serve", "alice", "--as", "alice", "--port", "0", "--token-file", "token", "--json") as child:
        yield child
        child.kill()


def test_serve_answers_who_has_the_token_and_ends_quietly_with_ctrl_c(
    call: Call, serve: subprocess.Popen[bytes]
) -> None:
    assert serve.stdout is not None
    told = json.loads(serve.stdout.readline())
    Path("other").write_text("s3cret2")
    assert told["token"] is True and told["url"].startswith("http://127.0.0.1:")
    refused(call("pull", "dora", "alice", told["url"], *TRUST), 3, "401")
    refused(call("pull", "dora", "alice", told["url"], *TRUST, "--token-file", "other"), 3, "401")
    # Neither a client that says nonsense nor one that goes makes it say a word.
    with socket.create_connection(("127.0.0.1", int(told["url"].rpartition(":")[2]))) as rude:
        rude.sendall(b"\x1b[31m\r\n\r\n")
        rude.recv(1)
    assert call("pull", "dora", "alice", told["url"], *TRUST, "--token-file", "token").code == 0
    serve.send_signal(signal.SIGINT)
    assert serve.communicate(timeout=10) == (b"", b"") and serve.returncode == 0


def test_the_page_of_an_instance_that_is_served_to_everyone_asks_for_no_token(alice: Federation) -> None:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    with process("serve", "alice", "--as", "alice", "--port", "0", "--json") as child:
        assert child.stdout is not None
        try:
            told = json.loads(child.stdout.readline())
            text = urlopen(told["page"]).read().decode()
            with pytest.raises(HTTPError, match="421"):
                urlopen(Request(told["page"], headers={"Host": "evil.example"}))
        finally:
            child.kill()
    assert told["token"] is False and "everyone who can reach this address" in text and "oken" not in text


def test_a_standard_input_that_cannot_be_read_is_named(alice: Federation) -> None:
    with open("out", "wb") as out, process("import", "dora", "-", *TRUST, stdin=out.fileno()) as child:
        assert child.stderr is not None
        said = child.stderr.read(), child.wait(timeout=10)
    assert said == (b"artdag_fed: the standard input cannot be read: Bad file descriptor\n", 3)


def test_a_pipe_that_closes_ends_it_quietly(alice: Federation) -> None:
    alice.cache["large"] = bytes(1_000_000)  # more than fits into a pipe
    with process("export", "alice", "-", "--as", "alice") as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.read(8) == b"artdag-f"
        child.stdout.close()
        assert (child.stderr.read(), child.wait(timeout=10)) == (b"", 141)


def test_a_full_disk_behind_the_standard_output_is_one_line(alice: Federation) -> None:
    for argv in (["info", "alice"], ["export", "alice", "-", "--as", "alice"]):
        with open("/dev/full", "wb") as full, process(*argv, stdout=full) as child:
            assert child.stderr is not None
            line = b"artdag_fed: the standard output cannot be written: No space left on device\n"
            assert (child.stderr.read(), child.wait(timeout=10)) == (line, 3)


def test_ctrl_c_while_a_bundle_comes_ends_it_quietly_and_keeps_nothing(alice: Federation, bundle: str) -> None:
    with process("import", "dora", "-", *TRUST, stdin=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stderr is not None
        child.stdin.write(Path(bundle).read_bytes()[:-1])
        child.stdin.flush()
        while not os.path.exists("dora/index.sqlite3"):  # now it waits for the last byte
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        assert (child.stderr.read(), child.wait(timeout=10)) == (b"", 130)
    assert len(artdag_fed.open("dora")) == 0


def test_arguments_that_are_no_utf_8_are_taken_or_refused_in_one_line(alice: Federation) -> None:
    with process("info", b"al\xffice\x1b") as child:
        out, err = child.communicate(timeout=10)
    assert (out, child.returncode) == (b"", 3)
    assert err == b"artdag_fed: 'al\\udcffice\\x1b' is no instance: nothing is there\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become someone who may not write there")
def test_a_folder_that_cannot_be_written_can_be_looked_at(alice: Federation, bundle: str, tmp_path: Path) -> None:
    from tests.children import Child

    alice.cache.close()  # type: ignore[attr-defined]  # it has one
    for parent in [tmp_path, *tmp_path.parents[:-2]]:
        parent.chmod(0o755)

    left = Path("alice", "blobs", "0" * 64)
    left.write_bytes(b"left over")
    left.parent.chmod(0o777)  # who may write the files and not the index must not remove any: it has no lock

    def as_nobody() -> list[int]:
        os.setuid(65534)
        looking = (["info", "alice"], ["ls", "alice"], ["check", "alice"])
        said = [main([*argv, "--json"]) for argv in looking]
        return [*said, main(["import", "alice", bundle, "--trust", "alice"]), main(["check", "alice", "--drop"])]

    assert Child(as_nobody).result() == [0, 0, 1, 3, 3] and left.exists()
