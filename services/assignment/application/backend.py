"""What the servicers of assignment work on."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from google.protobuf.message import Message

from services.assignment.application.snapshots import Snapshots
from services.assignment.ports import Configuration, ConfigurationReader, ConfigurationWriter
from shared.clock import Clock
from shared.errors import DomainError
from shared.ids import IdGenerator
from shared.mutations import Mutation
from shared.security.caller import current_caller

_LOG = logging.getLogger("touchstone.assignment")
M = TypeVar("M", bound=Message)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backend:
    """What the servicers work on. The store blocks, so it is used from threads."""

    reader: ConfigurationReader
    writer: ConfigurationWriter
    snapshots: Snapshots
    clock: Clock
    ids: IdGenerator
    cool_down: timedelta

    async def read(self, work: Callable[[Configuration], T]) -> T:
        """Do `work` in a read transaction."""

        def run() -> T:
            with self.reader.read() as configuration:
                return work(configuration)

        return await asyncio.to_thread(run)

    async def write(self, mutation: Mutation, work: Callable[[Configuration], M]) -> M:
        """Do `work` in a write transaction, then decide by its outcome."""
        project = current_caller().project

        def run() -> M:
            response = self.writer.write(mutation, work)
            try:
                self.snapshots.refresh(project)
            except DomainError as error:
                # The change is kept; the next poll brings it in.
                _LOG.warning("refresh after a change failed", extra={"reason": error.reason})
            return response

        return await asyncio.to_thread(run)
