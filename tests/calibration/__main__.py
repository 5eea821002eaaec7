"""`python -m tests.calibration [--long] [module ...]`: simulate what is promised.

Prints each promise with what was found. With --long it takes ten times the repetitions and
writes the table of docs/reference/calibration.md. Fails when a promise is not kept.
"""

import sys

from tests.calibration.promises import MODULES, registry
from tests.calibration.table import Row, publish, row


def main(arguments: list[str]) -> int:
    full = "--long" in arguments
    modules = [argument for argument in arguments if argument != "--long"] or list(MODULES)
    found: dict[tuple[str, str], Row] = {}
    broken = 0
    for promise in registry(modules):
        repetitions = promise.repetitions(full)
        figure = promise.simulate(repetitions)
        kept = promise.kept(figure, 0.0 if full else promise.room(repetitions))
        broken += not kept
        cells = row(promise, figure, repetitions)
        found[cells[0], cells[1]] = cells
        print("kept  " if kept else "BROKEN", " | ".join(cells), flush=True)
    if full and not broken:
        publish(registry(), found)
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
