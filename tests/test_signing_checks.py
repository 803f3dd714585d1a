"""Signatures: which checks verify, and which answers do not count as one.

Rules: shared keys are HMACs; any other kind is a function of the tests' own.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from artdag_fed import Federation, InvalidName, Record, hmac_signer, hmac_verifier, import_, raising, verifier
from tests.instances import everyone
from tests.signatures import KEY, OTHER, STATEMENT

# --- shared keys ----------------------------------------------------------------------------------


def test_an_hmac_signature_is_these_bytes() -> None:
    # RFC 2104 over the statement and nothing else, so that any language can make it:
    #   printf '...' | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102030405060708090a0b0c0d0e0f
    body = b"artdag-fed record v1\ncid c1\nresult 2 " + hashlib.sha256(b"J1").hexdigest().encode()
    body += b"\nlineage 0\nby alice\n"
    type_ = b"application/vnd.artdag-fed.record.v1"
    assert b"DSSEv1 %d %s %d %s" % (len(type_), type_, len(body), body) == STATEMENT
    assert hmac_signer(KEY)(STATEMENT).hex() == "ad70aa492f09cf59d8138a7c71ad267c4659e89c9feedb58e1c7a2dbed51824b"


def test_an_hmac_signature_holds_for_its_peer_its_statement_and_its_key_alone() -> None:
    verify = hmac_verifier({"alice": KEY, "bob": OTHER})
    signature = hmac_signer(KEY)(STATEMENT)
    assert verify("alice", STATEMENT, signature) is True
    assert verify("bob", STATEMENT, signature) is False
    assert verify("alice", STATEMENT, hmac_signer(OTHER)(STATEMENT)) is False
    for wrong in (b"", signature[:-1], signature + b"\0", signature.hex().encode()):
        assert verify("alice", STATEMENT, wrong) is False
    for bit in range(8 * len(signature)):
        flipped = (int.from_bytes(signature) ^ 1 << bit).to_bytes(len(signature))
        assert verify("alice", STATEMENT, flipped) is False
    for bit in range(8 * len(STATEMENT)):
        flipped = (int.from_bytes(STATEMENT) ^ 1 << bit).to_bytes(len(STATEMENT))
        assert verify("alice", flipped, signature) is False


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return True

    monkeypatch.setattr(hmac, "compare_digest", compare)
    # With the comparison replaced everything passes, so there is no other one beside it.
    assert hmac_verifier({"alice": KEY})("alice", STATEMENT, b"anything") is True
    assert compared == [(hmac_signer(KEY)(STATEMENT), b"anything")]


def test_a_peer_that_has_no_key_has_not_signed(fed: Federation) -> None:
    record = Record("c1", 1, "mallory").signed(hmac_signer(KEY))
    fed = import_(fed, [record], everyone, verify=hmac_verifier({"alice": KEY}))
    assert (fed.report.rejected, len(fed)) == ({"forged": 1}, 0)


def test_a_verifier_does_not_change_when_its_mapping_does() -> None:
    keys, checks = {"alice": KEY}, {"alice": lambda signature, statement: True}
    shared, single = hmac_verifier(keys), verifier(checks)
    keys["mallory"], checks["mallory"] = OTHER, checks["alice"]
    del keys["alice"], checks["alice"]
    assert shared("mallory", STATEMENT, hmac_signer(OTHER)(STATEMENT)) is False
    assert single("mallory", STATEMENT, b"...") is False
    assert shared("alice", STATEMENT, hmac_signer(KEY)(STATEMENT)) and single("alice", STATEMENT, b"...")


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 15])
def test_a_key_that_can_be_guessed_is_refused_and_not_shown(key: bytes) -> None:
    for make in (lambda: hmac_signer(key), lambda: hmac_verifier({"alice": KEY, "bob": key})):
        with pytest.raises(
            ValueError, match=rf"{len(key)} bytes, at least 16 .* use secrets.token_bytes\(32\)"
        ) as error:
            make()
        assert "x" * 8 not in str(error.value) and "short" not in str(error.value)
    with pytest.raises(ValueError, match="the key of 'bob'"):
        hmac_verifier({"bob": key})


@pytest.mark.parametrize("key", ["a long enough password", bytearray(32), memoryview(bytes(32)), None, 7])
def test_a_key_that_is_no_bytes_is_a_type_error(key: Any) -> None:
    with pytest.raises(TypeError, match="must be bytes") as error:
        hmac_signer(key)
    assert "password is no key" in str(error.value) or not isinstance(key, str)
    with pytest.raises(TypeError, match="the key of 'alice' must be bytes"):
        hmac_verifier({"alice": key})


def test_whoever_holds_an_hmac_key_can_sign_what_its_peer_never_said(fed: Federation) -> None:
    # Not a fault but what a shared key means: documented in docs/recipes.md, and why there are public keys.
    record = Record("c1", "never said", "alice").signed(hmac_signer(KEY))
    assert import_(fed, [record], everyone, verify=hmac_verifier({"alice": KEY})).report.admitted == 1


# --- any other kind -------------------------------------------------------------------------------


class Yes:
    """As true as can be, and not True."""

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__


@pytest.mark.parametrize("answer", [False, None, 0, 1, "yes", b"\x01", [True], Yes(), NotImplemented])
def test_a_check_that_answers_anything_but_true_has_not_verified(answer: Any) -> None:
    assert verifier({"alice": lambda signature, statement: answer})("alice", STATEMENT, b"...") is False


def test_a_check_is_given_the_signature_and_the_statement_of_its_own_peer_alone() -> None:
    asked: list[Any] = []

    def check_for(name: str) -> Callable[[bytes, bytes], bool]:
        def check(*given: bytes) -> bool:
            asked.append((name, *given))
            return True

        return check

    checks = {name: check_for(name) for name in ("alice", "bob")}
    verify = verifier(MappingProxyType(checks))
    assert verify("bob", b"statement", b"signature") is True
    assert verify("carol", b"statement", b"signature") is False
    assert asked == [("bob", b"signature", b"statement")]


def test_what_a_check_raises_goes_through_and_at_the_gate_rejects_that_record(fed: Federation) -> None:
    def check(signature: bytes, statement: bytes) -> bool:
        raise FileNotFoundError("ssh-keygen")

    verify = verifier({"alice": check, "bob": lambda signature, statement: True})
    with pytest.raises(FileNotFoundError):
        verify("alice", STATEMENT, b"...")
    bundle = [Record(f"c-{peer}", 1, peer, signature=b"...") for peer in ("alice", "bob")]
    fed = import_(fed, bundle, everyone, verify=verify)
    assert (list(fed), fed.report.rejected) == (["c-bob"], {"forged": 1})


@pytest.mark.parametrize("given", [None, ["alice"], "alice", {"alice"}, [("alice", KEY)]])
def test_what_is_no_mapping_by_peer_is_a_type_error(given: Any) -> None:
    for make in (verifier, hmac_verifier):
        with pytest.raises(TypeError, match=rf"{make.__name__} takes a mapping \{{peer: "):
            make(given)


def test_a_name_that_no_peer_can_have_is_refused_by_a_verifier() -> None:
    makes: list[Any] = [verifier, hmac_verifier]
    for make, value in zip(makes, (len, KEY), strict=True):
        with pytest.raises(InvalidName):
            make({"alice ": value})
        with pytest.raises(TypeError, match="named by a str"):
            make({7: value})
    with pytest.raises(TypeError, match="the check of 'alice' must be a callable, not bytes"):
        verifier({"alice": KEY})  # type: ignore[dict-item]  # a key where a check belongs


# --- checks that raise ----------------------------------------------------------------------------


def answers(answer: object) -> Callable[[bytes, bytes], object]:
    return lambda signature, statement: answer


def test_a_check_that_returns_without_raising_has_verified() -> None:
    assert raising(answers(None))(b"", b"") is True and raising(answers(True))(b"", b"") is True


def test_a_check_that_returns_false_has_not_verified_though_it_did_not_raise() -> None:
    assert raising(answers(False))(b"", b"") is False


@pytest.mark.parametrize("answer", [0, 1, -1, "", b"the message", Yes(), NotImplemented])
def test_a_check_that_returns_something_else_is_a_type_error_and_never_verifies(answer: Any) -> None:
    with pytest.raises(TypeError, match=r"a check for raising\(\) returns None where it holds, not "):
        raising(answers(answer))(b"", b"")
    verify = verifier({"alice": raising(answers(answer))})
    record = Record("c1", 1, "alice", signature=b"...")
    assert import_(Federation(), [record], everyone, verify=verify).report.rejected == {"forged": 1}


def test_a_check_that_nobody_awaited_never_verifies() -> None:
    made: list[Any] = []

    async def check(signature: bytes, statement: bytes) -> None: ...

    def keeping(signature: bytes, statement: bytes) -> object:
        made.append(check(signature, statement))
        return made[-1]

    with pytest.raises(TypeError, match="not coroutine"):
        raising(keeping)(b"", b"")
    made[0].close()  # or Python warns that it was never awaited


@pytest.mark.parametrize("error", [ValueError, TypeError, OSError, AssertionError, StopIteration, RecursionError])
def test_a_check_that_raises_has_not_verified(error: type[Exception]) -> None:
    def check(signature: bytes, statement: bytes) -> None:
        raise error

    assert raising(check)(b"", b"") is False


def test_ctrl_c_during_a_check_is_no_answer() -> None:
    def check(signature: bytes, statement: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        raising(check)(b"", b"")


def test_a_check_that_cannot_be_called_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="check must be a callable"):
        raising(b"key")  # type: ignore[arg-type]  # on purpose
