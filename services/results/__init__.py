"""Results: metric definitions and what experiments show."""
