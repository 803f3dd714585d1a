"""What is said of an instance: info, ls and check, and what invalidate finds and drops.

Rules: every error is one line that begins with the program's name, and no test lets a traceback pass.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from artdag_fed import Federation, Record, import_
from artdag_fed.__main__ import main
from tests import command_line
from tests.command_line import NODE, TRUST, Call, refused

alice, bundle, call, template = command_line.alice, command_line.bundle, command_line.call, command_line.template


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
