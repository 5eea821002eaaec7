"""The servicers: decode, handle, encode."""
