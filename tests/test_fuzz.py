"""The fuzzer's mutators and checks, without the fuzzer: they get behind what is checked first, and find what is wrong.

`python -m tests.fuzz` is the fuzzer itself.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import pytest

from artdag_fed import FederationError, codec_tagged
from tests.fuzz import bundles, payloads, seeds

ROUNDS = 4000


def raw(data: bytes, most: int) -> bytes:
    """In place of the fuzzer's own mutator: one byte is another one."""
    changed = bytearray(data or b"\0")
    changed[len(changed) // 2] ^= 1
    return bytes(changed[:most])


def walked(target: str, mutate: object) -> Iterator[bytes]:
    """Inputs, each made from one of the seeds or of those before it."""
    known = [seed for seed in seeds.of(target) if len(seed) <= seeds.LONGEST]
    rng = random.Random(7)
    for seed in range(ROUNDS):
        made = mutate(rng.choice(known), seeds.LONGEST, seed, raw)  # type: ignore[operator]  # one of two mutators
        known.append(made)
        yield made


def test_one_in_four_changed_bundles_gets_past_the_check_at_its_end_and_nothing_is_wrong_with_any() -> None:
    passed = 0
    for bundle in walked("bundle", bundles.mutated):
        bundles.check(bundle)
        with contextlib.suppress(FederationError):
            passed += len(bundles.read(bundle)) > 0
    assert passed > ROUNDS / 4, passed


def test_one_in_five_changed_payloads_is_a_value_and_nothing_is_wrong_with_any() -> None:
    passed = 0
    for payload in walked("codec", payloads.mutated):
        payloads.check(payload)
        with contextlib.suppress(FederationError):
            payloads.CODEC.decode(payload)
            passed += 1
    assert passed > ROUNDS / 5, passed


@pytest.mark.parametrize(("target", "mutate"), [("bundle", bundles.mutated), ("codec", payloads.mutated)])
def test_the_same_seed_makes_the_same_input_within_the_length_asked_for(target: str, mutate: object) -> None:
    first, second = list(walked(target, mutate)), list(walked(target, mutate))
    assert first == second and max(map(len, first)) <= seeds.LONGEST


def test_a_value_that_cannot_be_written_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_tagged, "read_scalar", lambda node: object())
    with pytest.raises(FederationError):
        payloads.check(payloads.joined(b"T", b'["tuple",["int","ff"]]', b""))


def test_a_value_that_does_not_stay_the_same_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_tagged, "read_unique", lambda text: ["list", len(text)])
    with pytest.raises(AssertionError):
        payloads.check(payloads.joined(b"T", b'["tuple",1,2]', b""))


def test_an_error_of_another_class_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object) -> None:
        raise KeyError("not for whoever reads a bundle")

    monkeypatch.setattr("artdag_fed.bundle.read_header", broken)
    with pytest.raises(KeyError):
        for seed in seeds.of("bundle"):
            bundles.check(seed)


def test_a_value_that_lost_a_part_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    take = codec_tagged.Reader.take
    monkeypatch.setattr(codec_tagged.Reader, "take", lambda self, size: take(self, size)[: 2 if size == 3 else size])
    with pytest.raises(AssertionError):
        payloads.check(payloads.joined(b"T", b'["tuple",["bytes",3]]', b"abc"))
