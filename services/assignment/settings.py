"""What this service needs to know of its surroundings, read from the environment."""

from datetime import timedelta

from pydantic import Field

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """The settings of every server, and those of assignment."""

    assignment_cool_down: timedelta = Field(
        timedelta(days=7),
        ge=timedelta(0),
        description="How long the slots of a stopped experiment rest, as ISO 8601 (P7D).",
    )
    assignment_poll_s: float = Field(
        1.0,
        gt=0,
        le=60,
        description="Seconds between two looks for configuration that another process changed, and "
        "for what a schedule makes due.",
    )
    assignment_stale_s: float = Field(
        60.0,
        gt=0,
        description="Age of the last confirmed configuration from which on a warning is logged.",
    )
