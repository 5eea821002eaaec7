"""The limits of the attribution service, in one place."""

from dataclasses import dataclass


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
