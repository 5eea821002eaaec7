"""Runs a module as the supervisor's child, and ends it when the supervisor is gone.

Standard input is a pipe whose other end only the supervisor holds. However the supervisor dies,
the system closes that end, and reading here comes to its end: no signal is needed, and it works
the same on Linux and macOS.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

_GRACE_S = 15.0


def _end_with_supervisor() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)


def main() -> None:
    """Runs the module that the first argument names as if it were called with `python -m`."""
    module = sys.argv[1]
    threading.Thread(target=_end_with_supervisor, name="supervisor-watch", daemon=True).start()
    sys.argv = [module, *sys.argv[2:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
