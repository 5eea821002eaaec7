"""From exact sums to what they say: estimates, readings, corrections, beliefs, decisions."""
