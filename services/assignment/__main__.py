"""`python -m services.assignment`: serve until told to stop."""

from services.assignment.composition import compose
from services.assignment.settings import Settings
from shared.server.run import run

if __name__ == "__main__":
    run(lambda: compose(Settings()))
