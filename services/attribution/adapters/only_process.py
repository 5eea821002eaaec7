"""Whether no other process of the service uses a folder."""

import fcntl
import os
from pathlib import Path

LOCK = "attribution.lock"


def is_only_process(folder: Path) -> bool:
    """Whether no other process has said so of this folder and still runs.

    This one has said it from then on, until it ends however it ends: the system keeps the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except BlockingIOError:
        alone = False
    fcntl.flock(handle, fcntl.LOCK_SH)
    return alone
