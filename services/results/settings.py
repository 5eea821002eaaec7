"""Settings of the results service."""

from pathlib import Path

from pydantic import Field

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """What the results service needs to know besides what every service does."""

    results_prior_mean: float = Field(
        0.0, ge=-10, le=10, description="Mean of the normal prior on a lift."
    )
    results_prior_std_dev: float = Field(
        0.3, gt=0, le=1e6, description="Standard deviation of the normal prior on a lift."
    )
    results_max_wait_s: float = Field(
        20.0, ge=0, le=30, description="Longest wait for data as fresh as a consistency token."
    )
    results_at_once: int = Field(
        2, ge=1, le=64, description="Results computed at once; the others wait in line."
    )
    results_in_line: int = Field(
        32, ge=0, le=1_000, description="Results that may wait in line; more are OVERLOADED."
    )
    results_threads: int = Field(
        2, ge=1, le=256, description="Threads of the analysis engine for one result."
    )
    results_memory_mb: int = Field(
        2_048, ge=64, description="Memory of the analysis engine before it spills, in megabytes."
    )
    results_states_mb: int = Field(
        20_480,
        ge=0,
        description="Disk for what is kept so that results follow new events, in megabytes. At 0 "
        "nothing is kept and every result is computed from all events.",
    )

    @property
    def states_path(self) -> Path:
        """Folder of what is kept so that results follow new events."""
        return self.data / "results-states"
