"""Ops as a module of a user's has them, so that a worker process can import them by name."""

from __future__ import annotations

from typing import Any

from artdag_fed.ops import Ops

ops = Ops("studio")


@ops.op(version=2)
def load(path: str) -> list[int]:
    return [len(path), 1, 2]


@ops.op
def blur(frame: list[int], radius: int = 1) -> list[int]:
    return [pixel * radius for pixel in frame]


@ops.op
def mix(*frames: list[int], weight: float = 0.5) -> Any:
    return [weight * sum(pixels) for pixels in zip(*frames, strict=True)]
