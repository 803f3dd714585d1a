"""How a command ends: wrong usage and help in this process, pipes, signals and full disks in real ones.

Rules: every error is one line that begins with the program's name, and no test lets a traceback pass. Real processes
are for what only they have.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import artdag_fed
from artdag_fed import Federation
from artdag_fed.__main__ import main
from tests import command_line
from tests.command_line import TRUST, Call, refused

SRC = Path(__file__).resolve().parent.parent / "src"
alice, bundle, call, template = command_line.alice, command_line.bundle, command_line.call, command_line.template


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
