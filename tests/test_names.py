"""names: which ids and peers are valid, and that hostile ones cannot fool a reader of a message."""

from __future__ import annotations

import pytest

from artdag_fed.errors import FederationError, InvalidName
from artdag_fed.names import PEER_BYTES, check_cid, check_peer, is_cid, is_peer, shown


class Word(str):
    __slots__ = ()


@pytest.mark.parametrize("cid", ["a", "0", "Z", "0f" * 32, "bafy:x-1_2.3", "a" * 128, "sha256:" + "0" * 64])
def test_a_token_of_any_system_is_a_cid(cid: str) -> None:
    assert is_cid(cid)
    assert check_cid(cid) == cid


@pytest.mark.parametrize(
    "cid",
    [
        "",
        "a" * 129,
        ".a",
        "..",
        "-a",
        "_a",
        ":a",
        "a/b",
        "a\\b",
        "a b",
        " a",
        "a ",
        "a\n",
        "a\x00",
        "é",
        "aé",
        "٣",
        "\uff41",  # full-width a
        "a%2f",
    ],
)
def test_what_could_be_a_path_a_flag_or_two_spellings_is_no_cid(cid: str) -> None:
    assert not is_cid(cid)
    with pytest.raises(InvalidName, match="is no cid: expected"):
        check_cid(cid)


@pytest.mark.parametrize(
    "peer",
    ["alice", "@studio@artdag.example", "a", "Ünï", "две студии", "工作室", "a" * PEER_BYTES, "é" * 127, "🎨", "a b"],
)
def test_text_that_a_person_reads_is_a_peer(peer: str) -> None:
    assert is_peer(peer)
    assert check_peer(peer) == peer


@pytest.mark.parametrize(
    "peer",
    [
        "",
        " ",
        " alice",
        "alice ",
        "alice\n",
        "\talice",
        "al\nice",
        "al\x00ice",
        "al\x7fice",
        "al\x1bice",
        "al\u0085ice",
        "\u00a0alice",
        "alice\u3000",
        "al\u200bice",  # zero-width space
        "al\u200dice",  # zero-width joiner
        "al\u202eice",  # right-to-left override
        "al\u2066ice",  # isolate
        "\ufeffalice",
        "al\u00adice",  # soft hyphen
        "al\u2028ice",
        "al\u2029ice",
        "al\ud800ice",
        "a" * (PEER_BYTES + 1),
        "é" * 128,
    ],
)
def test_text_that_could_fool_a_reader_or_a_file_system_is_no_peer(peer: str) -> None:
    assert not is_peer(peer)
    with pytest.raises(InvalidName, match="is no peer name: expected"):
        check_peer(peer)


@pytest.mark.parametrize("value", [None, 1, b"alice", ["alice"], Word("alice")])
def test_what_is_not_exactly_text_is_a_type_error_and_no_name(value: object) -> None:
    assert not is_cid(value)
    assert not is_peer(value)
    with pytest.raises(TypeError, match="a cid is a str, not "):
        check_cid(value)
    with pytest.raises(TypeError, match="a peer is named by a str, not "):
        check_peer(value)


def test_names_that_look_alike_are_two_peers() -> None:
    assert check_peer("\u00e9") != check_peer("e\u0301")


def test_an_invalid_name_is_caught_as_a_value_error_and_as_ours() -> None:
    assert issubclass(InvalidName, ValueError)
    assert issubclass(InvalidName, FederationError)


@pytest.mark.parametrize("text", ["x" * 10_000, "\n" * 100, "\u202e" * 100, "\ud800", "'\"" * 50, "é" * 59])
def test_a_hostile_name_is_shown_as_one_short_ascii_line(text: str) -> None:
    spelt = shown(text)
    assert spelt.isascii()
    assert spelt.isprintable()
    assert len(spelt) <= 64


def test_a_short_name_is_shown_whole() -> None:
    assert shown("x" * 60) == repr("x" * 60)
    assert shown("x" * 61) == "'" + "x" * 59 + "...'"
