"""The events service, restored by somebody who leaves the ledger of erasures out."""

from __future__ import annotations

from tests.robustness.twins.replaced import serve

if __name__ == "__main__":
    serve()
