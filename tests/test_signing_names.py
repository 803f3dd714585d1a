"""Signatures: what a verified name is worth.

Rules: what a signature covers is shown through `import_` and `pull`, since that is where it counts; Ed25519 is that of
`cryptography`, SSH is the recipe of `docs/recipes.md` as it is written there; the security page names tests that exist.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from artdag_fed import (
    Federation,
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
from tests.instances import Make, everyone
from tests.signatures import KEY, OTHER, STATEMENT

ROOT = Path(__file__).resolve().parent.parent


def ed25519(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


ALICE, BOB = ed25519(1), ed25519(2)
VERIFY = verifier({"alice": raising(ALICE.public_key().verify), "bob": raising(BOB.public_key().verify)})


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
