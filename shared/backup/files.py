"""Copy, hash and check the files of a backup."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from shared.backup.manifest import FILE_NAME, BackupFile, Manifest, damaged
from shared.lake.durable import fsync_folder

CHUNK_BYTES = 1024 * 1024
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
Told = Callable[[int], None]
"""Called with the number of bytes that were just dealt with."""


def nobody(_bytes: int) -> None:
    """Tell nobody."""


def hashed(path: Path, told: Told = nobody) -> tuple[int, str]:
    """The size and the SHA-256 of a file, which must not be a symbolic link."""
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(path):
        digest.update(chunk)
        size += len(chunk)
        told(len(chunk))
    return size, digest.hexdigest()


def copied(source: Path, target: Path, told: Told = nobody) -> tuple[int, str]:
    """Copy a file for its owner only; its size and SHA-256. Synced on return, not its folder."""
    digest, size = hashlib.sha256(), 0
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(handle, "wb", buffering=0) as out:
        for chunk in _chunks(source):
            _write_all(out.fileno(), chunk)
            digest.update(chunk)
            size += len(chunk)
            told(len(chunk))
        os.fsync(out.fileno())
    return size, digest.hexdigest()


def private_folder(folder: Path) -> None:
    """Make a folder, and those above it, for their owner only."""
    if not folder.exists():
        private_folder(folder.parent)
        folder.mkdir(PRIVATE_FOLDER, exist_ok=True)


def written(target: Path, content: bytes) -> None:
    """Write a new file for its owner only. Synced on return, not its folder."""
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        _write_all(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(folder: Path) -> None:
    """Make the names of everything below a folder durable, and its own content's names."""
    for name, _, _ in os.walk(folder):
        fsync_folder(Path(name))


def verify(folder: Path, manifest: Manifest, told: Told = nobody) -> None:
    """Read every file of a backup. FAILED_PRECONDITION names the first that is not as written,
    is missing, or does not belong there.
    """
    expected = manifest.by_path()
    for name in sorted(_present(folder)):
        if name not in expected and name != FILE_NAME:
            raise damaged(folder, f"{name} does not belong to it")
    for file in manifest.files:
        check(folder, file, told)


def check(folder: Path, file: BackupFile, told: Told = nobody) -> None:
    """Read one file. FAILED_PRECONDITION when it is not as it was written."""
    path = folder
    for part in Path(file.path).parts:
        path = path / part
        if path.is_symlink():
            raise damaged(folder, f"{file.path} leads elsewhere by a symbolic link")
    try:
        size, digest = hashed(path, told)
    except OSError as error:
        raise damaged(folder, f"{file.path} cannot be read ({error.strerror})") from error
    if size != file.size_bytes:
        raise damaged(folder, f"{file.path} has {size} bytes, written were {file.size_bytes}")
    if digest != file.sha256:
        raise damaged(folder, f"{file.path} has another checksum than was written")


def _present(folder: Path) -> Iterator[str]:
    for name, folders, names in os.walk(folder):
        links = [one for one in folders if (Path(name) / one).is_symlink()]
        for one in (*names, *links):
            yield str((Path(name) / one).relative_to(folder))


def _chunks(path: Path) -> Iterator[bytes]:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "it is no file")
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _write_all(handle: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]
