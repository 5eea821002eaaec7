"""Imports files of events by whole columns: no step looks at one event after another."""
