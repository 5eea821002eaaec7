"""What holds for every test."""

import os

# A service that is composed in a test takes no port but those that the test names.
os.environ.setdefault("TOUCHSTONE_EVENTS_HTTP_ADDRESS", "")
