"""The assignment service that shares its port with whoever comes."""

from __future__ import annotations

from tests.robustness.twins.replaced import part, replace, serve_assignment

MODULE = "shared.server.run"

if __name__ == "__main__":
    right = part(MODULE, "server_options")

    def server_options(max_message_bytes: int) -> list[tuple[str, str | int]]:
        """Stands in for the options."""
        kept = [option for option in right(max_message_bytes) if option[0] != "grpc.so_reuseport"]
        return [*kept, ("grpc.so_reuseport", 1)]

    replace(MODULE, "server_options", server_options)
    serve_assignment()
