"""The settings of the events service: TOUCHSTONE_<NAME> in the environment."""

from pathlib import Path

from pydantic import Field

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """What the events service needs to know."""

    flush_interval_s: float = Field(
        0.5, gt=0, le=60, description="Seconds between commits to the event tables."
    )
    dedupe_window_days: int = Field(
        30, ge=1, le=3650, description="Days that an event id is remembered; 24 bytes an event."
    )

    @property
    def journal_path(self) -> Path:
        """The journal of acknowledged events."""
        return self.data / "events" / "journal.db"

    @property
    def rejected_path(self) -> Path:
        """The rejected events."""
        return self.data / "events" / "rejected.db"
