"""Rows of events that are kept from one report to the next, as a cache of the event tables."""

from services.attribution.adapters.kept.log import KeptJourneyLog

__all__ = ["KeptJourneyLog"]
