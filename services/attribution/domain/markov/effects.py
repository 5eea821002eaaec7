"""What the removal of channels costs a chain."""

from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Flags, Floats


@dataclass(frozen=True, slots=True)
class RemovalEffects:
    """What removing each channel would cost the fitted chain.

    `effects` (C,) is RE_c = 1 - P(conversion when c leads to null)/P(conversion), between 0 and
    1; `value_effects` (C,) is the same of expected value, or None where the expected value of a
    journey is not above zero. Channels that no journey can pass on its way from the start to an
    end have effect 0 and stand in `unreachable`. `conversion_rate` is p_0. `error_bound` is proven:
    no effect is off by more than this part of itself, but for the rounding of floats; 0 where
    effects come from a closed form.
    """

    effects: Floats
    value_effects: Floats | None
    conversion_rate: float
    unreachable: Flags
    error_bound: float = 0.0

    @property
    def shares(self) -> Floats:
        """Return RE_c divided by its sum; all 0 where no journey converts."""
        return _normalised(self.effects)

    @property
    def value_shares(self) -> Floats | None:
        """Return the share of the value of each channel, None where it is undefined."""
        return None if self.value_effects is None else _normalised(self.value_effects)


def _normalised(effects: Floats) -> Floats:
    total = effects.sum()
    shares: Floats = effects / total if total > 0 else np.zeros_like(effects)
    return shares
