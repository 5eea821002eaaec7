"""Results that are kept up to date by what is new, as a cache of what the event tables say."""

from services.results.adapters.live.moments import LiveMoments

__all__ = ["LiveMoments"]
