"""A mapping of one's own, as small as can be."""

from __future__ import annotations

import collections.abc
from collections.abc import Iterator
from typing import Any


class Shelf(collections.abc.MutableMapping):
    """The smallest mapping that there is; it can be told to fail at its nth writing."""

    def __init__(self, **results: Any) -> None:
        self._results = results
        self.fails_at = 0

    def __getitem__(self, cid: str) -> Any:
        return self._results[cid]

    def __setitem__(self, cid: str, result: Any) -> None:
        self.fails_at -= 1
        if self.fails_at == 0:
            raise OSError("no room on the shelf")
        self._results[cid] = result

    def __delitem__(self, cid: str) -> None:
        del self._results[cid]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)
