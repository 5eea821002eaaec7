"""What holds for every test."""

import os

from hypothesis import settings

from shared.settings import MORE_ADDRESSES

# A service that is composed in a test takes no port but those that the test names.
for _name in MORE_ADDRESSES:
    os.environ.setdefault(f"TOUCHSTONE_{_name.upper()}", "")

# Nothing is a failure because the machine was busy.
settings.register_profile("touchstone", deadline=None)
settings.load_profile("touchstone")
