"""How well models tell who converts, on journeys that they have not seen."""
