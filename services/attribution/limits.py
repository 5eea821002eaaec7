"""The limits of the attribution service, in one place."""

from dataclasses import dataclass

from shared.errors import limit_exceeded


@dataclass(frozen=True, slots=True)
class AttributionLimits:
    """How much one question may ask for.

    `max_channels`: distinct channels in the touches read; the Markov chain grows with their cube.
    `max_touches_per_journey`: older touches of a longer journey are left out, and warned of.
    `credits_per_message`: credits in one message of a stream.
    `max_invitations`: invitations of one referral campaign.
    `max_wait_s`: seconds to wait for data as fresh as a token, where the deadline allows longer.
    """

    max_channels: int = 1_000
    max_touches_per_journey: int = 500
    credits_per_message: int = 1_000
    max_invitations: int = 300_000
    max_wait_s: float = 20.0


@dataclass(frozen=True, slots=True)
class KeptLimits:
    """How much a project may keep in the attribution service.

    `max_unfinished_reports`: reports that are computed or wait for it, those of schedules among
    them, beyond which nobody begins another but a schedule.
    """

    max_unfinished_reports: int = 50
    max_reports: int = 10_000
    max_schedules: int = 200
    max_channel_groupings: int = 200
    max_grouping_versions: int = 1_000
    max_calibration_links: int = 1_000
    max_spend_rows: int = 1_000_000


KEPT_LIMITS = KeptLimits()


def require_room(what: str, there: int, more: int, allowed: int) -> None:
    """RESOURCE_EXHAUSTED where a project would keep more than it may. Nothing is kept then."""
    if more > 0 and there + more > allowed:
        raise limit_exceeded(f"the number of {what} of the project", there + more, allowed)
