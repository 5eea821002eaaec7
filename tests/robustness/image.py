"""The disk that a power cut leaves: what was synced, and of the rest as much as chance wants.

Stricter than most file systems: a sync of a file keeps its bytes but not its name, a sync of a
folder keeps the names in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.robustness.trace import Step


@dataclass(frozen=True, slots=True)
class _Change:
    """Bytes written at a place, or, without bytes, the file cut or grown to that size."""

    at: int
    data: bytes | None = None

    def apply(self, content: bytearray) -> None:
        """Do it."""
        content.extend(bytes(max(0, self.at - len(content))))
        if self.data is None:
            del content[self.at :]
        else:
            content[self.at : self.at + len(self.data)] = self.data


@dataclass
class _Node:
    """A file or a folder: how it is in memory, and what of that is on the disk."""

    folder: bool = False
    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    unsynced: list[_Change] = field(default_factory=list)
    """What was done to it since the last sync."""
    names: dict[str, _Node] = field(default_factory=dict)
    synced_names: dict[str, _Node] = field(default_factory=dict)

    def change(self, change: _Change) -> None:
        """Change it in memory."""
        change.apply(self.content)
        self.unsynced.append(change)

    def on_disk(self, changes: int) -> bytes:
        """What was synced, and so many of the changes since."""
        content = bytearray(self.synced)
        for change in self.unsynced[:changes]:
            change.apply(content)
        return bytes(content)

    def sync(self) -> None:
        """What is in memory is on the disk."""
        self.synced, self.synced_names = bytes(self.content), dict(self.names)
        self.unsynced.clear()


class Disk:
    """A folder to which steps are applied one by one."""

    def __init__(self, root: Path) -> None:
        self._path = root
        self._root = _load(root)
        self._offsets: dict[int, int] = {}

    def apply(self, step: Step) -> None:
        """Do in memory what the process did."""
        act = getattr(self, f"_{_SAME.get(step.name, step.name)}")
        act(step)

    def cut(self, target: Path, dice: np.random.Generator | None) -> None:
        """Write what a power cut leaves now to a new folder: only what was synced, or, with dice,
        for each file and folder some more of what was not."""
        _write(self._root, target, dice)

    def _openat(self, step: Step) -> None:
        node = self._find(step.path)
        if node is None:
            node = _Node(folder="O_DIRECTORY" in step.arguments)
            self._parent(step.path).names[step.path.name] = node
        if "O_TRUNC" in step.arguments:
            node.change(_Change(0))
        self._offsets[step.descriptor] = len(node.content) if "O_APPEND" in step.arguments else 0

    def _write(self, step: Step) -> None:
        at = self._offsets.get(step.descriptor, 0)
        self._offsets[step.descriptor] = at + len(step.texts[-1])
        self._put(step.path, at, step.texts[-1])

    def _pwrite64(self, step: Step) -> None:
        self._put(step.path, _last_number(step.arguments), step.texts[-1])

    def _ftruncate(self, step: Step) -> None:
        node = self._find(step.path)
        if node is not None:
            node.change(_Change(_last_number(step.arguments)))

    def _rename(self, step: Step) -> None:
        source, target = self._two(step)
        self._parent(target).names[target.name] = self._parent(source).names.pop(source.name)

    def _link(self, step: Step) -> None:
        source, target = self._two(step)
        self._parent(target).names[target.name] = self._parent(source).names[source.name]

    def _unlink(self, step: Step) -> None:
        path = Path(step.texts[-1].decode())
        self._parent(path).names.pop(path.name, None)

    def _mkdir(self, step: Step) -> None:
        path = Path(step.texts[-1].decode())
        self._parent(path).names.setdefault(path.name, _Node(folder=True))

    def _fsync(self, step: Step) -> None:
        node = self._find(step.path)
        if node is not None:
            node.sync()

    def _put(self, path: Path, at: int, data: bytes) -> None:
        node = self._find(path)
        if node is not None:  # else it was unlinked: nobody will find it
            node.change(_Change(at, data))

    def _two(self, step: Step) -> tuple[Path, Path]:
        return Path(step.texts[0].decode()), Path(step.texts[1].decode())

    def _find(self, path: Path) -> _Node | None:
        node: _Node | None = self._root
        for part in path.relative_to(self._path).parts:
            node = node.names.get(part) if node else None
        return node

    def _parent(self, path: Path) -> _Node:
        node = self._find(path.parent)
        assert node is not None, f"{path.parent} was never made"
        return node


_SAME = {
    "renameat": "rename",
    "renameat2": "rename",
    "linkat": "link",
    "unlinkat": "unlink",
    "rmdir": "unlink",
    "mkdirat": "mkdir",
    "fdatasync": "fsync",
}


def replay(disk: Disk, steps: Sequence[Step], until_s: float) -> int:
    """Apply the steps that had ended at a moment; how many."""
    done = 0
    for step in steps:
        if step.end_s > until_s:
            break
        disk.apply(step)
        done += 1
    return done


def _load(path: Path) -> _Node:
    """A folder that was there before, all of it on the disk."""
    if path.is_dir():
        node = _Node(folder=True, names={child.name: _load(child) for child in path.iterdir()})
    else:
        node = _Node(content=bytearray(path.read_bytes()))
    node.sync()
    return node


def _write(node: _Node, target: Path, dice: np.random.Generator | None) -> None:
    if not node.folder:
        more = 0
        if dice is not None and dice.random() < 0.5:
            more = int(dice.integers(len(node.unsynced) + 1))
        target.write_bytes(node.on_disk(more))
        return
    target.mkdir()
    names = node.names if dice is not None and dice.random() < 0.5 else node.synced_names
    for name, child in names.items():
        _write(child, target / name, dice)


def _last_number(arguments: str) -> int:
    numbers = re.findall(r", (\d+)", arguments)
    return int(numbers[-1])
