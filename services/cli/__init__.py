"""The `touchstone` command: it speaks only gRPC, except where it starts the services."""
