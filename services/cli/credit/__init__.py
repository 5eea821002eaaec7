"""How commands say which journeys are credited, and by which models: in a file and by options."""
