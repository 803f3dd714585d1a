"""Signatures: what verifies, what does not, and what a verified name is worth.

Rules: what a signature covers is shown through `import_` and `pull`, since that is where it counts; Ed25519 is that of
`cryptography`, SSH is the recipe of `docs/recipes.md` as it is written there; the security page names tests that exist.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from artdag_fed import (
    Federation,
    InvalidName,
    Record,
    export,
    hmac_signer,
    hmac_verifier,
    import_,
    invalidate,
    pull,
    raising,
    verifier,
)

ROOT = Path(__file__).resolve().parent.parent
KEY, OTHER = bytes(range(16)), bytes(range(1, 33))
STATEMENT = Record("c1", 1, "alice").statement

Make = Callable[[], Federation]


def everyone(peer: str) -> bool:
    return True


def ed25519(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


ALICE, BOB = ed25519(1), ed25519(2)
VERIFY = verifier({"alice": raising(ALICE.public_key().verify), "bob": raising(BOB.public_key().verify)})


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


# --- Ed25519, and what a name is worth -------------------------------------------------------------


def test_ed25519_signs_and_verifies(make: Make) -> None:
    alice, bob = make(), make()
    alice.cache["c1"], alice.cache["c2"] = {"pixels": b"\x00\xff"}, None
    bob = import_(bob, export(alice, "alice", sign=ALICE.sign), everyone, verify=VERIFY)
    assert (bob.report.admitted, bob.cache["c1"]) == (2, {"pixels": b"\x00\xff"})


def test_without_raising_a_check_of_this_kind_verifies_nothing() -> None:
    record = Record("c1", 1, "alice").signed(ALICE.sign)
    bare: Any = ALICE.public_key().verify
    fed = import_(Federation(), [record], everyone, verify=verifier({"alice": bare}))
    assert fed.report.rejected == {"forged": 1}


def test_no_field_of_a_signed_record_can_be_changed(fed: Federation) -> None:
    sound = Record("c1", "a frame", "alice", {"carol"}).signed(ALICE.sign)
    signature = sound.signature
    changed = [
        Record("c2", "a frame", "alice", {"carol"}, signature=signature),
        Record("c1", "another", "alice", {"carol"}, signature=signature),
        Record("c1", "a frame", "bob", {"carol"}, signature=signature),
        Record("c1", "a frame", "alice", signature=signature),
        Record("c1", "a frame", "alice", {"dave"}, signature=signature),
        Record("c1", "a frame", "alice", {"carol", "dave"}, signature=signature),
        Record("c1", "a frame", "alice", {"carol"}, signature=signature[:-1]),
        Record("c1", "a frame", "alice", {"carol"}).signed(BOB.sign),
    ]
    fed = import_(fed, changed, everyone, verify=VERIFY)
    assert (fed.report.rejected, len(fed)) == ({"forged": len(changed)}, 0)
    assert import_(fed, [sound], everyone, verify=VERIFY).report.admitted == 1


def test_a_signed_record_is_its_signers_whoever_carried_it(make: Make) -> None:
    alice, bob = make(), make()
    alice.cache["c1"] = "a frame"
    carried = list(export(alice, "alice", sign=ALICE.sign))
    bob = pull(bob, lambda mirror: carried, "a-mirror", {"alice"}.__contains__, verify=VERIFY)
    assert bob.provenance == {"c1": "alice"} and bob.lineage.get("c1", frozenset()) == frozenset()


def test_who_exports_again_vouches_under_its_own_name(make: Make) -> None:
    alice, bob, carol = make(), make(), make()
    alice.cache["c1"] = "a frame"
    bob = import_(bob, export(alice, "alice", sign=ALICE.sign), everyone, verify=VERIFY)
    carol = import_(carol, export(bob, "bob", sign=BOB.sign), everyone, verify=VERIFY)
    assert (carol.provenance["c1"], carol.lineage["c1"]) == ("bob", frozenset({"alice"}))
    # In alice's name it cannot, though it holds her result and once had her signature.
    stolen = import_(make(), export(bob, "alice", sign=BOB.sign), everyone, verify=VERIFY)
    assert (stolen.report.rejected, len(stolen)) == ({"forged": 1}, 0)


def test_a_signature_for_one_purpose_is_none_for_another() -> None:
    # Whoever can have short texts signed (a login challenge, a commit) gets no statement: those begin with a type tag.
    assert STATEMENT.startswith(b"DSSEv1 36 application/vnd.artdag-fed.record.v1 ")
    body = STATEMENT.split(b" ", 4)[4]
    record = Record("c1", 1, "alice", signature=ALICE.sign(body))
    assert import_(Federation(), [record], everyone, verify=VERIFY).report.rejected == {"forged": 1}


@pytest.mark.parametrize("retired", ["alice-1", "alice-2"])
def test_a_new_key_is_a_new_name_and_each_can_be_taken_back_alone(make: Make, retired: str) -> None:
    fed, trusted = make(), {"alice-1", "alice-2"}
    keys = {"alice-1": KEY, "alice-2": OTHER}
    for n, (name, key) in enumerate(keys.items()):
        record = Record(f"c-{name}", n, name).signed(hmac_signer(key))
        fed = import_(fed, [record], trusted.__contains__, verify=hmac_verifier(keys))
    fed = invalidate(fed, retired)
    assert list(fed) == [f"c-{name}" for name in keys if name != retired]
    # The key that is gone from the mapping signs nothing any more, under either name.
    left = hmac_verifier({name: key for name, key in keys.items() if name != retired})
    again = [Record("c-new", 1, name).signed(hmac_signer(keys[retired])) for name in keys]
    fed = import_(fed, again, everyone, verify=left)
    assert fed.report.rejected == {"forged": 2} and "c-new" not in fed


def test_an_old_signed_record_stays_valid(make: Make) -> None:
    # Replay is not prevented: whoever kept the bytes can bring them back for as long as the name is trusted.
    fed = make()
    kept = [Record("c1", "old", "alice").signed(ALICE.sign)]
    fed = import_(fed, kept, {"alice"}.__contains__, verify=VERIFY)
    fed = invalidate(fed, "alice")
    assert import_(fed, kept, {"bob"}.__contains__, verify=VERIFY).report.rejected == {"untrusted": 1}
    assert import_(fed, kept, {"alice"}.__contains__, verify=VERIFY).report.admitted == 1


def test_lineage_that_its_signer_left_out_is_not_noticed(make: Make) -> None:
    alone = Record("c1", "made from carol's", "alice").signed(ALICE.sign)
    fed = import_(make(), [alone], everyone, verify=VERIFY, trusted_lineage=lambda peer: peer != "carol")
    assert fed.report.admitted == 1 and not fed.lineage.get("c1")


# --- the recipe for SSH keys ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the block of docs/recipes.md defines, and two keys in `folder`."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    [block] = [b for b in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "ssh-keygen" in b]
    names: dict[str, Any] = {"folder": tmp_path_factory.mktemp("ssh")}
    exec(compile(block, "docs/recipes.md", "exec"), names)
    for name in ("alice", "bob"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{name} * cert-authority", "-f", name]
        subprocess.run(command, cwd=names["folder"], check=True)
    return names


def test_ssh_keys_sign_and_verify_records(ssh: dict[str, Any], fed: Federation) -> None:
    folder = ssh["folder"]
    check = ssh["ssh_check"]((folder / "alice.pub").read_text())
    verify = verifier({"alice": check})
    sound, forged = (Record("c1", 1, "alice").signed(ssh["ssh_signer"](folder / name)) for name in ("alice", "bob"))
    moved = Record("c2", 1, "alice", signature=sound.signature)
    fed = import_(fed, [forged, moved, sound], everyone, verify=verify)
    assert (fed.report.rejected, dict(fed.provenance)) == ({"forged": 2}, {"c1": "alice"})


def test_an_ssh_signature_for_another_purpose_or_of_any_size_is_none(ssh: dict[str, Any]) -> None:
    folder = ssh["folder"]
    check = ssh["ssh_check"]((folder / "alice.pub").read_text())
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", "alice"]
    for_git = subprocess.run(command, cwd=folder, input=STATEMENT, capture_output=True, check=True).stdout
    ours = ssh["ssh_signer"](folder / "alice")(STATEMENT)
    assert for_git.startswith(b"-----BEGIN SSH SIGNATURE-----") and check(ours, STATEMENT)
    assert [check(wrong, STATEMENT) for wrong in (for_git, b"", b"-", ours[:-40], ours + b"x" * 10_000)] == [False] * 5


# --- what is written about it -----------------------------------------------------------------------

PROMISES = re.compile(r"^\d+\. \*\*(.+?)\*\*.*?(?=^\d+\. |^#|\Z)", re.MULTILINE | re.DOTALL)
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
}


def test_every_promise_of_the_security_page_names_a_test_that_exists() -> None:
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    promises = {m[1]: re.findall(r"`(test_\w+)`", m[0]) for m in PROMISES.finditer(page)}
    assert len(promises) >= 20 and [promise for promise, tests in promises.items() if not tests] == []
    assert [name for name in re.findall(r"`(test_\w+)`", page) if name not in TESTS] == []
