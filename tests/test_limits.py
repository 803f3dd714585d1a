"""Every bound on what a peer may send: it is checked before the work is done, and nothing is kept where it is passed.

Rules: a limit on the whole ends the import as `BundleError`; a limit on one record rejects that record (in
`test_admission`). Bundles here are often endless, which is the point of a limit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from artdag_fed import BundleError, Federation, Limits, Record, import_, pull
from tests.instances import everyone


def endless(result: Any = 1, peers: Iterator[str] | None = None) -> Iterator[Record]:
    return (Record(f"c{n}", result, "bob" if peers is None else next(peers)) for n in itertools.count())


@pytest.mark.parametrize("trusted", [everyone, lambda peer: False], ids=["trusted", "untrusted"])
def test_a_bundle_of_too_many_records_is_refused_whoever_it_is_from(fed: Federation, trusted: Any) -> None:
    with pytest.raises(
        BundleError, match=r"the bundle has more than 1,000 records \(Limits.records\): nothing was kept"
    ):
        import_(fed, endless(), trusted, limits=Limits(records=1000))
    assert len(fed) == 0


@pytest.mark.parametrize("trusted", [everyone, lambda peer: False], ids=["trusted", "untrusted"])
def test_a_bundle_of_too_many_bytes_is_refused_whoever_it_is_from(fed: Federation, trusted: Any) -> None:
    with pytest.raises(BundleError, match=r"more than 100,000 payload bytes \(Limits.bytes\): nothing was kept"):
        import_(fed, endless(b"x" * 10_000), trusted, limits=Limits(bytes=100_000))
    assert len(fed) == 0


def test_a_bundle_of_too_many_origins_is_refused(fed: Federation) -> None:
    peers = (f"peer-{n}" for n in itertools.count())
    with pytest.raises(BundleError, match=r"more than 50 distinct origins \(Limits.origins\): nothing was kept"):
        import_(fed, endless(peers=peers), everyone, limits=Limits(origins=50))
    assert len(fed) == 0


def test_an_endless_pull_ends_and_names_the_peer(fed: Federation) -> None:
    with pytest.raises(BundleError, match="the bundle from 'bob' has more than 100 records"):
        pull(fed, lambda peer: endless(), "bob", everyone, limits=Limits(records=100))


def test_a_bundle_of_exactly_as_much_as_is_allowed_is_taken(fed: Federation) -> None:
    bundle = [Record(f"c{n}", "x" * 97, f"peer-{n % 5}") for n in range(10)]  # 100 bytes each: J"..."
    limits = Limits(records=10, bytes=1000, record_bytes=100, origins=5)
    assert import_(fed, bundle, everyone, limits=limits).report.admitted == 10


def test_reading_stops_at_the_limit(fed: Federation) -> None:
    read: list[int] = []

    def bundle() -> Iterator[Record]:
        for n in itertools.count():
            read.append(n)
            yield Record(f"c{n}", 1, "bob")

    with pytest.raises(BundleError):
        import_(fed, bundle(), everyone, limits=Limits(records=10))
    assert len(read) == 11


def test_what_was_staged_before_the_limit_leaves_nothing_behind(durable: Federation, tmp_path: Any) -> None:
    def files() -> list[str]:
        return sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file() and "blobs" in p.parts)

    before = files()
    with pytest.raises(BundleError):
        import_(durable, endless(b"x" * 100_000), everyone, limits=Limits(records=20))
    assert files() == before and before == []


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_a_limit_is_a_positive_int(name: str) -> None:
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"Limits.{name} must be at least 1, not {wrong}"):
            Limits(**{name: wrong})
    no_int: Any
    for no_int in (1.0, True, None, "10"):
        with pytest.raises(TypeError, match=f"Limits.{name} must be an int, not"):
            Limits(**{name: no_int})
    assert getattr(Limits(**{name: 1}), name) == 1


def test_limits_are_frozen_and_named() -> None:
    with pytest.raises(FrozenInstanceError):
        Limits().records = 1  # type: ignore[misc]  # on purpose
    with pytest.raises(TypeError):
        Limits(1)  # type: ignore[misc]  # on purpose
