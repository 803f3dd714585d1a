"""Keys and a statement for the tests of signatures."""

from __future__ import annotations

from artdag_fed import Record

KEY, OTHER = bytes(range(16)), bytes(range(1, 33))
STATEMENT = Record("c1", 1, "alice").statement
