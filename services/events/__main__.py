"""`python -m services.events`: serve until SIGTERM."""

from services.events.composition import compose
from services.events.settings import Settings
from shared.server.run import run

if __name__ == "__main__":
    run(lambda: compose(Settings()))
