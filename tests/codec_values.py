"""Values and payloads for the tests of the codec: how they are made, written by hand and compared."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from datetime import datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

import artdag_fed.codec as module
from artdag_fed.codec import DEFAULT

SOURCES = Path(module.__file__).parent.parent
VECTORS = json.loads((Path(__file__).parent / "vectors" / "codec.json").read_text(encoding="utf-8"))


def tagged(text: str | bytes, buffers: bytes = b"") -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return b"T" + len(raw).to_bytes(8, "big") + raw + buffers


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same in every type and every visible part, NaN being the same as NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, (set, frozenset)):
        return sorted(map(DEFAULT.encode, a)) == sorted(map(DEFAULT.encode, b)) and len(a) == len(b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, (datetime, time)):
        return repr(a) == repr(b)  # with its fold, and its time zone with its name
    return bool(a == b)


def child(code: str, *, seed: str = "0", stdin: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(SOURCES), "PYTHONHASHSEED": seed}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, input=stdin, capture_output=True, text=True, check=False, timeout=60
    )
