"""The watermark: one consistent cut over all event tables.

`<lake>/_watermark.json` names the version of each table that together hold every event up to one
journal position. It is replaced atomically after the tables are durable, so a reader that opens
the tables at exactly these versions sees each event of the cut once and nothing of a later one.
"""

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shared.errors import Code, DomainError, failed_precondition, shown, unavailable
from shared.lake.durable import fsync_folder
from shared.lake.layout import LAYOUT_VERSION

FILE_NAME = "_watermark.json"


@dataclass(frozen=True, slots=True)
class ConsistencyToken:
    """A journal position that a client may hand back to ask for "at least as fresh as"."""

    journal_id: str
    position: int

    def encode(self) -> str:
        """Opaque text, safe in a URL."""
        text = f"{self.journal_id}:{self.position}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @staticmethod
    def decode(token: str) -> "ConsistencyToken":
        """The position inside a token; INVALID_ARGUMENT when it was not made by `encode`."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            journal_id, position = raw.decode().rsplit(":", 1)
            parsed = ConsistencyToken(journal_id, int(position))
        except (binascii.Error, ValueError) as error:
            raise _bad_token(token) from error
        if not journal_id or parsed.position < 0 or parsed.encode() != token:
            raise _bad_token(token)
        return parsed


@dataclass(frozen=True, slots=True)
class Watermark:
    """What a reader may see: table versions that hold the journal up to `position`."""

    journal_id: str
    position: int
    table_versions: Mapping[str, int]
    commit_time: datetime

    def token(self) -> str:
        """The token of which this watermark is exactly "at least as fresh as"."""
        return ConsistencyToken(self.journal_id, self.position).encode()

    def covers(self, token: ConsistencyToken) -> bool:
        """Whether everything acknowledged with the token is in these table versions."""
        return self.journal_id == token.journal_id and self.position >= token.position


NOTHING_WRITTEN = Watermark("", 0, {}, datetime(1970, 1, 1, tzinfo=UTC))


def read_watermark(lake: Path) -> Watermark | None:
    """The current watermark, or None where nothing was ever written.

    A file of a newer layout is FAILED_PRECONDITION; one that is damaged or cannot be read is
    UNAVAILABLE.
    """
    path = lake / FILE_NAME
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        fields = json.loads(text)
        layout = int(fields["layout_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    if layout > LAYOUT_VERSION:
        raise failed_precondition(
            "NEWER_VERSION",
            f"the event tables in {lake} have layout version {layout}; this program reads up to "
            f"{LAYOUT_VERSION}: run the newer version of Touchstone that wrote them",
        )
    try:
        return Watermark(
            journal_id=str(fields["journal_id"]),
            position=int(fields["position"]),
            table_versions={str(k): int(v) for k, v in fields["tables"].items()},
            commit_time=datetime.fromisoformat(fields["commit_time"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path) from error


def write_watermark(lake: Path, watermark: Watermark) -> None:
    """Replace the watermark atomically; durable when this returns."""
    fields = {
        "layout_version": LAYOUT_VERSION,
        "journal_id": watermark.journal_id,
        "position": watermark.position,
        "tables": dict(watermark.table_versions),
        "commit_time": watermark.commit_time.isoformat(),
    }
    new = lake / f"{FILE_NAME}.new"
    with new.open("w") as file:
        json.dump(fields, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(lake / FILE_NAME)
    fsync_folder(lake)


def _bad_token(token: str) -> DomainError:
    return DomainError(
        Code.INVALID_ARGUMENT,
        "INVALID_CONSISTENCY_TOKEN",
        f"consistency token {shown(token)} was not issued by the events service; pass the token "
        "of a LogEvents reply unchanged, or leave it empty",
    )


def _unreadable(path: Path, error: OSError) -> DomainError:
    return unavailable(
        "STORAGE_UNAVAILABLE",
        f"the watermark {path} cannot be read ({error.strerror}); make the folder readable for "
        "the user that runs this service",
    )


def _damaged(path: Path) -> DomainError:
    return unavailable(
        "STORAGE_UNAVAILABLE",
        f"the watermark {path} is damaged; move the file away and restart the events service, "
        "which writes it again from the tables and the journal",
        retry_after_s=None,
    )
