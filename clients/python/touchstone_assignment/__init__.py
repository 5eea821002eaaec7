"""Decides which variant a unit gets, from rules in memory: in the service and in products alike."""
