"""What a disk may hold after the power went: images of a folder, from operations and a choice of those that got there.

Which reorderings are considered. A file system of the ext4 kind promises more than POSIX asks for; this is the weaker
of the two wherever they differ, so that nothing here depends on the mount options of one system:

* `fsync` and `fdatasync` of a file put its bytes and its size on the disk, all that had been written when the call
  began; and nothing else: not the file's own name (ext4 would write that too), nor any other file.
* `fsync` of a folder puts its entries on the disk; not what is in the files that they name.
* Everything else may have got there or not, each operation by itself and in any order: a later write without an earlier
  one, a new size with the bytes missing (zeros), bytes of one file without those of another, an entry without the
  bytes, an entry of one folder without one of another, one name in a folder without the other (ext4's journal would
  keep the order of names; this does not rely on it). Of several changes of one name in a folder any may be the last
  that counts.
* A write is torn at sectors of 512 bytes: any subset of them may be new. A sector is whole, old or new, and nothing
  beside what was written is touched (what SQLite calls powersafe overwrite).
* A rename over a name is atomic: that name has the old file or the new one. Its two halves may be torn the one way that
  loses nothing: both names there. When the old name is gone for good, the new one is there for good.
* What was on the disk stays; a disk that lies about having written is not considered, nor one that rots.

Rules: no clock and no chance in here: which operations got there is said by the caller.

>>> write = Op(0, 1, "write", 1, offset=0, data=b"new")
>>> platter = Platter({0: {"f": 1}}, {1: b"old"}, [write])
>>> platter.image(1, {}), platter.image(1, {0: True})
({'f': b'old'}, {'f': b'new'})
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.crash.recording import ROOT, Op

__all__ = ["SECTOR", "Choice", "Image", "Platter", "lay", "sectors"]

SECTOR = 512

Choice = Mapping[int, bool | int]
"""Which operations that could be lost are on the disk, by their index: True, False (as where it is missing), or for a
write a number whose bits are its sectors, the lowest the first; the bit above the last is its size."""

Image = dict[str, bytes | None]
"""Files with their content, and folders (None), by path."""


def sectors(op: Op) -> list[tuple[int, int]]:
    """The pieces of a write that get to the disk as a whole: from and to, in the data."""
    edges = [0, *range(SECTOR - op.offset % SECTOR, len(op.data), SECTOR), len(op.data)]
    return list(itertools.pairwise(edges))


class Platter:
    """A folder as it was (entries by folder, contents by file) and what was done to it, in the order of its ends."""

    def __init__(
        self, entries: Mapping[int, Mapping[str, int]], contents: Mapping[int, bytes], operations: Sequence[Op]
    ) -> None:
        self.operations = operations
        self._entries = entries
        self._contents = contents
        self._of: dict[int, list[int]] = {}
        for index, op in enumerate(operations):
            self._of.setdefault(op.target, []).append(index)
        self._whole: dict[tuple[int, int], bytes] = {}

    def pending(self, cut: int) -> list[int]:
        """The operations among the first `cut` that may be lost if the power goes then."""
        synced = {op.target: op.begin for op in self.operations[:cut] if op.kind == "sync"}
        safe = set()
        for index, op in enumerate(self.operations[:cut]):
            if op.kind in ("sync", "mark") or op.end < synced.get(op.target, -1):
                safe |= {index, op.needs}
        return [index for index in range(cut) if index not in safe]

    def image(self, cut: int, choice: Choice) -> Image:
        """What is there after the first `cut` operations, of those that may be lost only the chosen ones."""
        effect: dict[int, bool | int] = dict.fromkeys(range(cut), True)
        for index in self.pending(cut):
            effect[index] = choice.get(index, False)
        for index, op in enumerate(self.operations[:cut]):
            if op.needs >= 0 and effect[index]:
                effect[op.needs] = True
        image: Image = {}
        folders = [("", ROOT)]
        while folders:
            path, folder = folders.pop()
            for name, node in self._names(folder, effect):
                if node in self._entries:
                    image[path + name] = None
                    folders.append((f"{path}{name}/", node))
                else:
                    image[path + name] = self._content(node, effect)
        return image

    def _names(self, folder: int, effect: Mapping[int, bool | int]) -> Iterable[tuple[str, int]]:
        names = dict(self._entries[folder])
        for index in self._of.get(folder, ()):
            op = self.operations[index]
            if not effect.get(index):
                continue
            if op.kind == "bind":
                names[op.name] = op.bound
            elif op.kind == "unbind":
                names.pop(op.name, None)
        return names.items()

    def _content(self, node: int, effect: Mapping[int, bool | int]) -> bytes:
        """A file's bytes. Those that lack nothing are kept, as most files of most images are like that."""
        these = [index for index in self._of.get(node, ()) if index in effect]
        done = [(index, effect[index]) for index in these if effect[index]]
        if not done:
            return self._contents[node]
        whole = all(effect[index] is True for index in these)
        if whole and (node, these[-1]) in self._whole:
            return self._whole[node, these[-1]]
        content = bytearray(self._contents[node])
        for index, how in done:
            op = self.operations[index]
            if op.kind == "truncate":
                del content[op.offset :]
                content.extend(bytes(op.offset - len(content)))
            elif op.kind == "write":
                for begin, end in _kept(op, how):
                    content.extend(bytes(max(0, op.offset + end - len(content))))
                    content[op.offset + begin : op.offset + end] = op.data[begin:end]
                if how is not True and how >> len(sectors(op)):
                    content.extend(bytes(max(0, op.offset + len(op.data) - len(content))))
        made = bytes(content)
        if whole:
            self._whole[node, these[-1]] = made
        return made


def _kept(op: Op, how: bool | int) -> Iterator[tuple[int, int]]:
    if how is True:
        yield 0, len(op.data)
        return
    for number, piece in enumerate(sectors(op)):
        if how >> number & 1:
            yield piece


def lay(image: Image, root: Path) -> None:
    """Make an image real, under an empty folder."""
    for path, content in sorted(image.items()):  # a folder sorts before what is in it
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)
