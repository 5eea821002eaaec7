"""Settings of the attribution service."""

from pathlib import Path

from pydantic import Field

from services.attribution.limits import KeptLimits
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """What the attribution service needs to know besides what every service does."""

    attribution_max_channels: int = Field(
        1_000, ge=1, le=2_000, description="Most distinct channels in one attribution."
    )
    attribution_max_touches_per_journey: int = Field(
        500, ge=1, le=10_000, description="Most touches of one journey; the newest are kept."
    )
    attribution_threads: int = Field(
        2, ge=1, le=256, description="Threads of the analysis engine for one attribution."
    )
    attribution_memory_mb: int = Field(
        2_048, ge=64, description="Memory of the analysis engine before it spills, in megabytes."
    )
    attribution_at_once: int = Field(
        2, ge=1, le=64, description="Attributions computed at once; the others wait in line."
    )
    attribution_in_line: int = Field(
        32, ge=0, le=1_000, description="Attributions that may wait in line; more are OVERLOADED."
    )
    attribution_max_wait_s: float = Field(
        20.0, ge=0, le=30, description="Longest wait for data as fresh as a consistency token."
    )
    attribution_kept_mb: int = Field(
        20_480,
        ge=0,
        description="Disk for events that are kept from one report to the next, in megabytes. At 0 "
        "nothing is kept and every report reads all events.",
    )
    attribution_scores_mb: int = Field(
        5_120,
        ge=0,
        description="Disk for credits of reports that are kept from one stream or file to the "
        "next, in megabytes. At 0 every one computes them.",
    )
    attribution_score_streams: int = Field(
        32,
        ge=1,
        le=10_000,
        description="Streams and files of credits that are sent at once; half of them of one "
        "project.",
    )
    attribution_reports_at_once: int = Field(
        2,
        ge=1,
        le=4,
        description="Reports that are computed at once; the others wait, in the order of their "
        "beginning.",
    )
    attribution_max_unfinished_reports: int = Field(
        50,
        ge=1,
        le=10_000,
        description="Reports of a project that are computed or wait for it; RunAttribution of more "
        "is OVERLOADED. Schedules begin theirs all the same.",
    )
    attribution_max_reports: int = Field(
        10_000, ge=1, description="Reports that a project keeps. Those of schedules count too."
    )
    attribution_max_schedules: int = Field(
        200, ge=1, le=10_000, description="Schedules of reports that a project keeps."
    )
    attribution_max_channel_groupings: int = Field(
        200, ge=1, le=10_000, description="Channel groupings that a project keeps."
    )
    attribution_max_grouping_versions: int = Field(
        1_000, ge=2, le=100_000, description="Versions of one channel grouping that are kept."
    )
    attribution_max_calibration_links: int = Field(
        1_000,
        ge=1,
        le=100_000,
        description="Links of channels to experiments that a project keeps.",
    )
    attribution_max_spend_rows: int = Field(
        1_000_000, ge=1, description="Rows of spend that a project keeps."
    )

    @property
    def kept_limits(self) -> KeptLimits:
        """How much a project may keep."""
        return KeptLimits(
            max_unfinished_reports=self.attribution_max_unfinished_reports,
            max_reports=self.attribution_max_reports,
            max_schedules=self.attribution_max_schedules,
            max_channel_groupings=self.attribution_max_channel_groupings,
            max_grouping_versions=self.attribution_max_grouping_versions,
            max_calibration_links=self.attribution_max_calibration_links,
            max_spend_rows=self.attribution_max_spend_rows,
        )

    @property
    def scores_path(self) -> Path:
        """Folder of credits that are kept from one reader to the next."""
        return self.data / "attribution-scores"

    @property
    def kept_path(self) -> Path:
        """Folder of events that are kept from one report to the next."""
        return self.data / "attribution-kept"
