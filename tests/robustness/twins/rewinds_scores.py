"""The attribution service whose resume tokens go back by one credit."""

from __future__ import annotations

from typing import Any

from tests.robustness.twins.replaced import part, replace, serve_attribution

MODULE = "services.attribution.api.scores"

if __name__ == "__main__":
    right = part(MODULE, "decode_place")

    def decode_place(stored: Any, index: int, token: str) -> int:
        """Stands in for the place behind which a stream goes on."""
        return max(0, int(right(stored, index, token)) - 1)

    replace(MODULE, "decode_place", decode_place)
    serve_attribution()
