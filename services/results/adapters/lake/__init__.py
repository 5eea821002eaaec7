"""Where results read events: the event tables, summed up by unit."""

from services.results.adapters.lake.moments import LakeMoments

__all__ = ["LakeMoments"]
