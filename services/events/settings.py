"""The settings of the events service: TOUCHSTONE_<NAME> in the environment."""

import re
from pathlib import Path

from pydantic import Field, field_validator

from services.events.domain.flag_evaluation import NO_CHOICE
from shared.errors import shown
from shared.settings import ServiceSettings

_RATE = re.compile(
    r"(?P<project>[a-z][a-z0-9-]*)=(?P<events>[0-9]{1,12}):(?P<bytes>[0-9]{1,15})", re.ASCII
)
_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}")


def parse_rates(text: str) -> dict[str, tuple[float, float]]:
    """Events and bytes a second by project, from `acme=5000:1048576,rival=100:65536`."""
    found: dict[str, tuple[float, float]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _RATE.fullmatch(part)
        if match is None or not int(match["events"]) or not int(match["bytes"]):
            raise ValueError(
                f"{shown(part)} is no rate; allowed: PROJECT=EVENTS:BYTES, both a second and above "
                "0, separated by commas"
            )
        found[match["project"]] = (float(match["events"]), float(match["bytes"]))
    return found


def parse_reasons(text: str) -> frozenset[str]:
    """The reasons of evaluations that make an exposure, from `split,targeting_match`."""
    reasons = frozenset(part.strip().lower() for part in text.split(","))
    for reason in reasons:
        if not _REASON.fullmatch(reason) or reason in NO_CHOICE:
            raise ValueError(
                f"{shown(reason)} makes no exposure; allowed: words of a to z, 0 to 9 and _, "
                f"separated by commas, other than {', '.join(sorted(NO_CHOICE))}"
            )
    return reasons


class Settings(ServiceSettings):
    """What the events service needs to know."""

    flush_interval_s: float = Field(
        0.5, gt=0, le=60, description="Seconds between commits to the event tables."
    )
    dedupe_window_days: int = Field(
        30,
        ge=30,
        le=3650,
        description="Days that an event id is remembered, 30 or more; 24 bytes an event.",
    )
    erasure_grace_s: float = Field(
        3600.0,
        ge=0,
        le=7 * 86_400,
        description="Seconds that readers may still hold files that held an erased unit. Longer "
        "than the longest reading of the tables, and not below 30 outside of tests: a call that "
        "was let in just before the erasure may still be storing.",
    )
    backups: Path | None = Field(
        None,
        description="Folder of backups, best on another disk. Default: backups in the data folder.",
    )
    rate_events_per_s: float = Field(
        300_000.0, gt=0, le=1e9, description="Events a second that a project may send."
    )
    rate_bytes_per_s: float = Field(
        128.0 * 1024 * 1024, gt=0, le=1e12, description="Bytes a second that a project may send."
    )
    project_rates: str = Field(
        "",
        max_length=100_000,
        description="Other rates of single projects: `acme=5000:1048576,...` are events and bytes "
        "a second.",
    )

    otlp_unit_type: str = Field(
        "user",
        pattern=r"^[a-z][a-z0-9_]{0,31}$",
        description="Type of the units of flag evaluations that name none.",
    )
    otlp_exposure_reasons: str = Field(
        "split,targeting_match",
        description="Reasons of flag evaluations that make an exposure, separated by commas.",
    )

    @field_validator("otlp_exposure_reasons")
    @classmethod
    def _reasons_hold(cls, text: str) -> str:
        parse_reasons(text)
        return text

    @field_validator("project_rates")
    @classmethod
    def _rates_hold(cls, text: str) -> str:
        parse_rates(text)
        return text

    @property
    def otlp_reasons(self) -> frozenset[str]:
        """The reasons that make an exposure, in lower case."""
        return parse_reasons(self.otlp_exposure_reasons)

    @property
    def backups_path(self) -> Path:
        """The folder of backups."""
        return self.backups or self.data / "backups"

    @property
    def journal_path(self) -> Path:
        """The journal of acknowledged events."""
        return self.data / "events" / "journal.db"

    @property
    def rejected_path(self) -> Path:
        """The rejected events."""
        return self.data / "events" / "rejected.db"

    @property
    def erasures_marker_path(self) -> Path:
        """Which erasures the rejected events and the journal reflect."""
        return self.data / "events" / "erasures.json"
