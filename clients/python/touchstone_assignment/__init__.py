"""Decides which variant a unit gets, from rules in memory: as the server does it, and products may."""
