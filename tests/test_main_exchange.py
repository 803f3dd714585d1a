"""What goes out and comes in by the command line: export and import, pull and serve.

Rules: every error is one line that begins with the program's name, and no test lets a traceback pass.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

import artdag_fed
from artdag_fed import Federation, Record, hmac_signer, node
from artdag_fed.cli_arguments import PULL_TOKEN, SERVE_TOKEN
from artdag_fed.transports import folder, http
from tests import command_line
from tests.command_line import KEY, NODE, TRUST, Call, refused, written
from tests.http_servers import serving

alice, bundle, call, template = command_line.alice, command_line.bundle, command_line.call, command_line.template


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
