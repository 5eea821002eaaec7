"""Serve the results service: `python -m services.results`."""

from services.results.composition import compose
from services.results.settings import Settings
from shared.server.run import run

if __name__ == "__main__":
    run(lambda: compose(Settings()))
