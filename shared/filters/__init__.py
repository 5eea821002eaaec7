"""Filters of events: what they are, which are allowed, and their messages."""
