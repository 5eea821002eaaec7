"""The RPCs and the HTTP doors: decode, handle, encode."""
