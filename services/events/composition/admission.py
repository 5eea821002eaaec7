"""The limits on what comes in, from the settings."""

import time
from collections.abc import Callable

from services.events.adapters.disk_space import fullest
from services.events.application.admission import Admission, AdmissionLimits
from services.events.application.disk_room import DiskRoom
from services.events.batch import Batch
from services.events.domain.rate import ProjectRates, Rate
from services.events.ports import Journal
from services.events.settings import Settings, parse_rates

TRACKED_PROJECTS = 10_000


def admission(settings: Settings, waiting_s: Callable[[], float]) -> Admission:
    """The limits that the settings give; `waiting_s` is how long the disk has not answered."""
    special = {
        project: Rate(events, size)
        for project, (events, size) in parse_rates(settings.project_rates).items()
    }
    default = Rate(settings.rate_events_per_s, settings.rate_bytes_per_s)
    rates = ProjectRates(default, special, TRACKED_PROJECTS)
    return Admission(rates, AdmissionLimits(), time.monotonic, waiting_s)


def charging(door: Admission, settings: Settings, journal: Journal) -> Callable[[Batch], None]:
    """What a batch has to pass before it goes to the journal: room on the disk, and its rate."""
    folders = [settings.journal_path.parent, settings.lake_path]
    room = DiskRoom(lambda: fullest(folders), lambda: journal.backlog_bytes, time.monotonic)

    def charge(batch: Batch) -> None:
        room.check(batch)
        door.charge(batch)

    return charge
