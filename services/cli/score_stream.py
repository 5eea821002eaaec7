"""Credits that are written as they come, so that a broken stream goes on where it stopped."""

from __future__ import annotations

import csv
import enum
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import grpc
import typer
from google.protobuf import json_format
from touchstone.attribution.v1 import attribution_pb2
from touchstone.attribution.v1 import score_service_pb2 as pb

from services.cli.figures import time_text
from services.cli.rendering import Cell, columns, neutral
from shared.errors import DomainError, failed_precondition, unavailable

COLUMNS = columns(
    "conversion_id",
    "touch_id",
    "unit_type",
    "unit_id",
    "channel",
    "touch_time",
    "conversion_time",
    "weight",
    "value",
)
_ATTEMPTS = 5
_FIRST_WAIT_S = 0.5
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
Stream = Callable[[str], Iterable[pb.StreamScoresResponse]]
"""The stream behind a resume token."""


class LineFormat(enum.StrEnum):
    """The forms of credits that are written a line at a time."""

    NDJSON = "ndjson"
    CSV = "csv"


def credit_row(credit: attribution_pb2.Credit) -> tuple[Cell, ...]:
    """A credit in the order of COLUMNS."""
    return (
        credit.conversion_id,
        credit.touch_id,
        credit.unit.type,
        credit.unit.id,
        credit.channel,
        time_text(credit, "touch_time"),
        time_text(credit, "conversion_time"),
        credit.weight,
        credit.value,
    )


def write_header(form: LineFormat, out: TextIO) -> None:
    """The line before the first credit, if the form has one."""
    if form is LineFormat.CSV:
        csv.writer(out, lineterminator="\n").writerow([column.name for column in COLUMNS])


def write_credits(
    credits_: Iterable[attribution_pb2.Credit], form: LineFormat, out: TextIO
) -> None:
    """A line a credit."""
    if form is LineFormat.CSV:
        sheet = csv.writer(out, lineterminator="\n")
        sheet.writerows(map(neutral, credit_row(credit)) for credit in credits_)
        return
    for credit in credits_:
        document = json_format.MessageToDict(credit, preserving_proto_field_name=True)
        out.write(json.dumps(document) + "\n")


@dataclass(frozen=True, slots=True)
class Place:
    """How far a file is: what goes on behind its first `size` bytes."""

    report: str
    result: int
    form: str
    token: str = ""
    size: int = 0
    credits: int = 0


def parts_of(stream: Stream, token: str) -> Iterator[pb.StreamScoresResponse]:
    """Every part behind the token. A stream that breaks is begun again behind the last part that
    came, a few times; then the error of the call is raised.
    """
    broken = 0
    while True:
        came = 0
        try:
            for part in stream(token):
                yield part
                token, came = part.resume_token, came + 1
                if part.complete:
                    return
            raise unavailable("DEPENDENCY_UNAVAILABLE", "the stream was cut off")
        except (grpc.RpcError, DomainError) as error:
            broken = 1 if came else broken + 1
            if broken == _ATTEMPTS or not _may_go_on(error, came):
                raise
            time.sleep(_FIRST_WAIT_S * 2 ** (broken - 1))


def _may_go_on(error: Any, came: int) -> bool:
    """A call that lasted as long as one may goes on where something came of it."""
    late = grpc.StatusCode.DEADLINE_EXCEEDED
    return isinstance(error, DomainError) or error.code() in (
        _AGAIN if not came else (*_AGAIN, late)
    )


class ScoreFile:
    """A file of credits, with how far it is in a second file beside it, until it is whole."""

    def __init__(self, path: Path, place: Place) -> None:
        self._path = path
        self._state = path.with_name(f"{path.name}.resume")
        self.place = self._begun(place)

    def _begun(self, wanted: Place) -> Place:
        """The place of the file, if a stream into it broke; otherwise the beginning."""
        if not self._state.exists():
            if self._path.exists():
                raise typer.BadParameter(
                    f"--to is {str(self._path)!r}, which is there and is whole; allowed: a file "
                    "that is not there, or one that a broken stream left with its .resume"
                )
            return wanted
        try:
            found = Place(**json.loads(self._state.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise self._unfit("cannot be read") from error
        same = replace(found, token="", size=0, credits=0)
        if same != wanted:
            raise self._unfit(
                f"is of result {found.result} of {found.report} as {found.form}, and this is of "
                f"result {wanted.result} of {wanted.report} as {wanted.form}"
            )
        if not self._path.exists() or self._path.stat().st_size < found.size:
            raise self._unfit(f"counts {found.size} bytes, and {self._path} has fewer")
        return found

    def _unfit(self, why: str) -> DomainError:
        return failed_precondition(
            "CANNOT_RESUME",
            f"{self._state} {why}: delete it and {self._path} to begin anew, or name another file",
        )

    def fill(self, parts: Iterator[pb.StreamScoresResponse]) -> None:
        """Write the parts behind the place. What came before an error stays, and its place."""
        form = LineFormat(self.place.form)
        # Nothing is made where nothing comes.
        first = next(parts)
        # Before the file: without it a file counts as whole.
        self._keep()
        with self._path.open("a", encoding="utf-8", newline="") as out:
            # What was written behind the last place that was kept comes again.
            out.truncate(self.place.size)
            if not self.place.size:
                write_header(form, out)
            for part in chain([first], parts):
                write_credits(part.credits, form, out)
                out.flush()
                os.fsync(out.fileno())
                self.place = replace(
                    self.place,
                    token=part.resume_token,
                    size=os.fstat(out.fileno()).st_size,
                    credits=self.place.credits + len(part.credits),
                )
                self._keep()
        self._state.unlink(missing_ok=True)

    def _keep(self) -> None:
        made = self._state.with_name(f".{self._state.name}.part")
        made.write_text(json.dumps(asdict(self.place)) + "\n")
        made.replace(self._state)
