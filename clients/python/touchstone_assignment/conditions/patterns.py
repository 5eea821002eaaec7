"""Regular expressions of RE2: time linear in the text, and bounded by the limits."""

from collections.abc import Callable

import re2

from touchstone_assignment.conditions.limits import LIMITS

Search = Callable[[object], bool]


def read_pattern(text: object) -> Search:
    """Whether the expression is found in a text; ValueError with what is allowed.

    Text longer than the limit never matches: an expression must not be a way to spend a server's
    time, and what no attribute holds needs no answer.
    """
    if not isinstance(text, str) or not text:
        raise ValueError("an RE2 regular expression (https://github.com/google/re2/wiki/Syntax)")
    size = len(text.encode())
    if size > LIMITS.pattern_bytes:
        raise ValueError(f"at most {LIMITS.pattern_bytes} bytes; this has {size}")
    search = _compiled(text).search
    longest = LIMITS.pattern_text_bytes

    def found(value: object) -> bool:
        if not isinstance(value, str) or len(value) > longest:
            return False
        try:
            data = value.encode()
        except UnicodeEncodeError:
            return False
        return len(data) <= longest and search(data) is not None

    return found


def _compiled(text: str) -> "re2._Regexp":
    options = re2.Options()
    options.max_mem = LIMITS.pattern_memory_bytes
    options.never_capture = True
    options.log_errors = False
    try:
        compiled = re2.compile(text.encode(), options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if error.args else "not valid"
        raise ValueError(f"an RE2 regular expression; here: {reason}") from error
    size = max(compiled.programsize, compiled.reverseprogramsize)
    if size > LIMITS.pattern_instructions:
        raise ValueError(
            f"an expression of at most {LIMITS.pattern_instructions} steps; this has {size}: "
            "repeat less, or name fewer classes of characters"
        )
    return compiled
