"""A simulated shop whose truth is known, played through the services."""
