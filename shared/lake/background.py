"""A rewrite in a process of its own."""

import json
import logging
import subprocess
import sys
from pathlib import Path

from shared.lake.rewrite import Joined
from shared.lake.upkeep import Rewrite

_LOG = logging.getLogger(__name__)
# The path is handed on because the caller's may not be the one of the environment.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from shared.lake.rewrite import main; main()"
)


class BackgroundJoin:
    """One rewrite that is under way. The process ends by itself when this one does."""

    def __init__(self, table: Path, rewrite: Rewrite) -> None:
        self.table = table.name
        self.rewrite = rewrite
        command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path)]
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and program
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is for the service, which ends this too. In a session of its own the kernel
            # may give it an equal share of the processors, whatever its priority.
            process_group=0,
        )
        job = {
            "table": str(table.resolve()),
            "inputs": [file.path for file in rewrite.inputs],
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._process.poll() is not None

    def result(self) -> Joined | None:
        """What it wrote, once it is done; None when it failed, and the log says why."""
        assert self._process.stdout is not None
        answer = self._process.stdout.read()
        self.close()
        if self._process.returncode != 0:
            _LOG.warning("a rewrite of %s failed: %d", self.table, self._process.returncode)
            return None
        return Joined(**json.loads(answer))

    def close(self) -> None:
        """End it, done or not."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait()
