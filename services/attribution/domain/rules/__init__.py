"""Rule models: weights of the touches of each converting journey."""

from services.attribution.domain.rules import age, channel, position
from services.attribution.domain.rules.weights import touch_weights

__all__ = ["age", "channel", "position", "touch_weights"]
