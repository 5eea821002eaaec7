"""What every door of the events service stands on: the log, its files and its one writer."""

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from opentelemetry import metrics

from services.events.adapters.arrow_codec import ArrowCodec, projects_of
from services.events.adapters.delta_sink import DeltaSink
from services.events.adapters.instruments import count_items, show_pending
from services.events.adapters.journal_watch import JournalWatch
from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.adapters.sqlite_rejected import SqliteRejectedEvents
from services.events.adapters.window_rebuild import rebuild
from services.events.api.door import current_door
from services.events.api.intake import Intake
from services.events.application.admission import Admission
from services.events.application.fair_turns import FairTurns
from services.events.application.flush import FlushLoop, flush
from services.events.application.group_commit import GroupCommit
from services.events.application.keep_rejected import GroupKeep
from services.events.application.log_events import EventLog, Logged, Window
from services.events.application.pending import PendingBatches
from services.events.application.receive_time import ReceiveTime
from services.events.application.retention import RetentionUpkeep
from services.events.application.window_upkeep import WindowUpkeep, WindowUpkeepLoop
from services.events.composition.admission import admission, charging
from services.events.composition.privacy import Privacy, open_privacy, retention_upkeep
from services.events.domain.dedupe import DedupeWindow
from services.events.domain.limits import Limits
from services.events.ports import EventSink, Journal
from services.events.settings import Settings
from services.events.wire.columns import EventDecoder
from shared.lake.watermark import NOTHING_WRITTEN, read_watermark
from shared.server.platform import open_platform
from shared.server.run import Platform
from shared.server.validation import RequestValidator


def unchanged(journal: Journal) -> Journal:
    """The journal as it is."""
    return journal


FillWindow = Callable[[Window, Path, Journal, Limits, dt.datetime], None]


@dataclass(frozen=True, slots=True)
class Core:
    """The parts that the doors share. `flusher.do` runs work of the one writer of the tables."""

    settings: Settings
    platform: Platform
    limits: Limits
    files: "Files"
    log: EventLog
    keeping: GroupKeep
    threads: ThreadPoolExecutor
    flusher: FlushLoop
    window_upkeep: WindowUpkeepLoop
    intake: Intake
    privacy: Privacy
    retention: RetentionUpkeep

    @property
    def journal(self) -> Journal:
        """The journal."""
        return self.files.journal

    @property
    def rejected(self) -> SqliteRejectedEvents:
        """The rejected events."""
        return self.files.rejected

    @property
    def sink(self) -> DeltaSink:
        """The tables, as their one writer sees them."""
        return self.files.sink

    async def start(self) -> None:
        """Begin to flush."""
        self.flusher.start()
        self.window_upkeep.start()

    async def stop(self) -> None:
        """End what has a thread or a file, in order."""
        writers = (self.log.commits, self.keeping, self.flusher, self.window_upkeep)
        for part in (*writers, self.sink, self.journal, self.rejected):
            await asyncio.to_thread(part.close)
        await asyncio.to_thread(self.threads.shutdown)
        self.privacy.ledger.close()

    def ready(self) -> bool:
        """Ready while an acknowledgement can be given and events become visible."""
        usable = self.journal.usable and self.rejected.usable
        return usable and self.flusher.healthy and not self.intake.admission.stalled


@dataclass(frozen=True, slots=True)
class Files:
    """What is stored, and the window of ids that was filled from it."""

    journal: Journal
    scrub_journal: Callable[[], None]
    rejected: SqliteRejectedEvents
    sink: DeltaSink
    window: Window


def open_core(
    settings: Settings,
    decorate: Callable[[Journal], Journal] = unchanged,
    fill_window: FillWindow = rebuild,
) -> Core:
    """The core on the embedded adapters: SQLite journal, Delta tables on local files.

    `decorate` may put another journal around the one on the disk; `fill_window` loads the ids of
    what is stored.
    """
    platform = open_platform(settings)
    limits = Limits(dedupe_window_days=settings.dedupe_window_days)
    files = open_files(settings, platform, limits, decorate, fill_window)
    privacy = open_privacy(settings, platform)
    retention = retention_upkeep(privacy.retention, files.sink, files.rejected, platform.clock)
    watch = JournalWatch(files.journal, time.monotonic)
    door = admission(settings, lambda: watch.waiting_s)
    keeping = GroupKeep(files.rejected, limits, current_door)
    threads = ThreadPoolExecutor(limits.threads, "heavy")
    log = EventLog(
        files.window,
        GroupCommit(watch, ArrowCodec(), limits, charging(door, settings, files.journal)),
        keeping,
        ReceiveTime(platform.clock),
        limits,
        pending_batches(files.journal, files.sink, limits),
        privacy.rules,
        threads,
    )
    days = WindowUpkeep(files.window, platform.clock)
    days.turn()
    return Core(
        settings=settings,
        platform=platform,
        limits=limits,
        files=files,
        log=log,
        keeping=keeping,
        threads=threads,
        flusher=open_flusher(settings, files, limits, retention),
        window_upkeep=WindowUpkeepLoop(days, settings.flush_interval_s),
        intake=open_intake(door, log),
        privacy=privacy,
        retention=retention,
    )


def open_files(
    settings: Settings,
    platform: Platform,
    limits: Limits,
    decorate: Callable[[Journal], Journal],
    fill_window: FillWindow,
) -> Files:
    """Journal, rejected events and tables, in the order in which they need each other."""
    before = read_watermark(settings.lake_path) or NOTHING_WRITTEN
    stored = SqliteJournal(settings.journal_path, platform.ids, after=before.position)
    journal = decorate(stored)
    rejected = SqliteRejectedEvents(settings.rejected_path, limits)
    sink = DeltaSink(settings.lake_path, journal, platform.clock)
    window: Window = DedupeWindow(limits.dedupe_window_days)
    fill_window(window, settings.lake_path, journal, limits, platform.clock.now())
    return Files(journal, stored.scrub, rejected, sink, window)


def open_flusher(
    settings: Settings, files: Files, limits: Limits, retention: RetentionUpkeep
) -> FlushLoop:
    """The one writer of the tables."""
    return FlushLoop(
        step=lambda: flush(files.journal, files.sink, limits),
        tidy=lambda: tidy(files.sink, retention),
        recover=files.sink.recover,
        interval_s=settings.flush_interval_s,
    )


def open_intake(door: Admission, log: EventLog) -> Intake:
    """The way in."""
    validator = RequestValidator()
    return Intake(
        door,
        log,
        validator,
        EventDecoder(log.limits, validator.first_violation),
        instruments(log.pending),
        FairTurns(log.limits.threads),
    )


def tidy(sink: EventSink, retention: RetentionUpkeep) -> None:
    """A turn of upkeep of the tables: what is too old takes no time unless there is some."""
    retention.turn()
    sink.tidy()


def pending_batches(journal: Journal, sink: EventSink, limits: Limits) -> PendingBatches:
    """The batches that were acknowledged before and did not reach the tables."""
    pending = PendingBatches(lambda: sink.position)
    after = sink.position
    while entries := journal.read(after, limits.flush_bytes):
        for entry in entries:
            for project in projects_of(entry):
                pending.add(project, entry.position)
        after = entries[-1].position
    return pending


def instruments(pending: PendingBatches) -> Callable[[Logged], None]:
    """Show what is pending, and count what is answered."""
    meter = metrics.get_meter("touchstone")
    show_pending(meter, pending.total)
    return count_items(meter)
