"""What the engine and the table format run into, as errors that a caller understands."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from deltalake.exceptions import DeltaError

from shared.errors import Code, DomainError, unavailable

_LOG = logging.getLogger(__name__)


@contextmanager
def understood(lake: Path, memory_limit_mb: int) -> Iterator[None]:
    """Too little memory is RESOURCE_EXHAUSTED; a missing or damaged file is UNAVAILABLE.

    Anything else passes as it is: it is a fault of the program.
    """
    try:
        yield
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        raise _too_large(memory_limit_mb) from error
    except (DeltaError, duckdb.IOException, OSError) as error:
        raise _unreadable() from error
    except duckdb.InvalidInputException as error:
        # The engine says this of damaged files, which it names, and of wrong questions.
        if str(lake) not in str(error):
            raise
        raise _unreadable() from error


def _too_large(memory_limit_mb: int) -> DomainError:
    return DomainError(
        Code.RESOURCE_EXHAUSTED,
        "LIMIT_EXCEEDED",
        f"the analysis needs more memory than the {memory_limit_mb} MB that it may use: ask for "
        "fewer metrics or a shorter time range, or let the operator raise the service's "
        "MEMORY_MB setting",
        metadata={"limit": "memory of the analysis engine in megabytes"},
    )


def _unreadable() -> DomainError:
    # The caller is told no path; the operator finds the file in the log.
    _LOG.exception("the event tables cannot be read")
    return unavailable(
        "STORAGE_UNAVAILABLE",
        "the event tables cannot be read, because a file of theirs is missing or damaged; the log "
        "of the service names it: let the operator restore it, then call again",
    )
