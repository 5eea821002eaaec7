"""What this service needs to know of its surroundings, read from the environment."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from shared.settings import OptionalAddress, ServiceSettings

_PROJECTS = r"^([a-z][a-z0-9-]{0,62}(,[a-z][a-z0-9-]{0,62})*)?$"


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
    assignment_sticky_wait_s: float = Field(
        0.5,
        gt=0,
        le=5,
        description="How long a decision waits for what the unit was served before; after that the "
        "rules decide alone.",
    )
    assignment_rulesets: Path | None = Field(
        None,
        description="Folder of the last known configurations, with the id lists and the hashes of "
        "keys, by which assignment starts while the state database is away. Each process needs its "
        "own. Default: assignment/rulesets in the data folder.",
    )
    credential_outage_s: float = Field(
        86_400.0,
        ge=0,
        le=604_800,
        description="How long a key that was good goes on being good while the state database is "
        "away.",
    )
    flagd_address: OptionalAddress = Field(
        "",
        description="Where clients of flagd may come without a credential, for the flags of "
        "`TOUCHSTONE_FLAGD_PROJECTS`. Empty: nowhere.",
    )
    flagd_projects: str = Field(
        "",
        pattern=_PROJECTS,
        description="The projects whose flags anybody gets who reaches that address, separated by "
        "commas. Empty: none.",
    )
    flagd_streams: int = Field(
        500,
        ge=1,
        description="Streams of flags that may be open at each port; half of them of one project.",
    )

    @property
    def rulesets_path(self) -> Path:
        """The folder of the last known configurations."""
        return self.assignment_rulesets or self.data / "assignment" / "rulesets"

    @property
    def kept_keys_path(self) -> Path:
        """The file of the keys that are good while the state database is away."""
        return self.rulesets_path / "keys.json"

    @property
    def flagd_flag_sets(self) -> tuple[str, ...]:
        """The projects of `flagd_projects`."""
        return tuple(filter(None, self.flagd_projects.split(",")))
