"""Replays files of finished experiments and of journeys through the ingest RPC."""
