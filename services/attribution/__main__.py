"""Serve the attribution service: `python -m services.attribution`."""

from services.attribution.composition import compose
from services.attribution.settings import Settings
from shared.server.run import run

if __name__ == "__main__":
    run(lambda: compose(Settings()))
