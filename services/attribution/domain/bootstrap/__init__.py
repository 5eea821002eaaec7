"""The Poisson bootstrap by unit: how far every channel figure would move with other units.

Source: Chamandy, Muralidharan, Najmi, Naidu (2012), "Estimating uncertainty for massive data
streams"; Hanley and MacGibbon (2006). Each replicate weighs each unit by its own Poisson(1)
number, in place of drawing units with replacement; all journeys of a unit share its weight, so
journeys of one unit need not be independent. Assumption: units are independent of one another.
"""
