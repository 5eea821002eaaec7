"""OFREP 0.3: OpenFeature's own protocol over HTTP, and its stream of changes."""
