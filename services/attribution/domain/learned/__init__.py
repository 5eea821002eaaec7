"""Models that are fitted to journeys with and without conversion, and can be checked on others."""
