"""What journeys look like: their paths, lengths, delays, steps and funnels.

Everything here counts; nothing is estimated. Each table can hold back cells with few units.
"""
