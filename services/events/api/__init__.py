"""The doors of the events service: decode, handle, encode."""
