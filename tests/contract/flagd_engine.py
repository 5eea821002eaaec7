"""Runs in an environment of its own: evaluates flags of a document by openfeature-flagd-core.

The job on standard input is {"document": text, "asked": [[key, context], ...]}; the answers on
standard output are [variant, reason, metadata], with no variant where the engine failed. Parameters
are numbers, everything else is text.
"""

import json
import logging
import sys
from typing import Any


def main() -> None:
    """Evaluates every flag that is asked for."""
    # The imports exist only in the engine's own environment.
    from openfeature.contrib.tools.flagd.core import (  # type: ignore[import-not-found]
        FlagdCore,
    )
    from openfeature.evaluation_context import EvaluationContext

    logging.getLogger("openfeature").setLevel(logging.CRITICAL)
    job = json.load(sys.stdin)
    core = FlagdCore()
    core.set_flags(job["document"])
    answers: list[Any] = []
    for key, given in job["asked"]:
        context = dict(given)
        number = key.startswith("param.")
        targeting_key = context.pop("targetingKey", None)
        try:
            ask = core.resolve_float_value if number else core.resolve_string_value
            found = ask(key, 0.0 if number else "", EvaluationContext(targeting_key, context))
        except Exception as error:  # noqa: BLE001  whatever the engine raises is its answer
            answers.append([None, repr(error), {}])
        else:
            answers.append([found.variant, str(found.reason), dict(found.flag_metadata)])
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
