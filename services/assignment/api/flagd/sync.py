"""flagd.sync.v1.FlagSyncService: documents for clients that evaluate in process."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from flagd.sync.v1 import sync_pb2 as pb
from google.protobuf.struct_pb2 import Struct
from touchstone_assignment.bucketing import HashVersion

from services.assignment.api.flagd.documents import Document, make_document
from services.assignment.api.flagd.evaluation import RESOLVE, WATCH
from services.assignment.api.flagd.selectors import selected
from services.assignment.application.served_flags import ServedFlags
from shared.server.places import StreamPlaces
from shared.server.rules import Rule

SYNC = "flagd.sync.v1.FlagSyncService"
RULES: Mapping[str, Rule] = MappingProxyType(
    {"SyncFlags": WATCH, "FetchAllFlags": RESOLVE, "GetMetadata": RESOLVE}
)
DEBOUNCE_S = 0.25
_SHOWN = 10
_LOG = logging.getLogger("touchstone.assignment")


class Documents:
    """The newest document of each flag set and dialect, made once for all who want it."""

    def __init__(self, served: ServedFlags) -> None:
        self._served = served
        self._made: dict[tuple[str, HashVersion], tuple[str, Document]] = {}
        """With the digest of the rules that it was made from."""
        self._making: dict[tuple[str, HashVersion], asyncio.Lock] = {}

    async def newest(self, project: str, dialect: HashVersion) -> Document:
        """The document; UNAVAILABLE when the project was never loaded and the store is away."""
        key = (project, dialect)
        async with self._making.setdefault(key, asyncio.Lock()):
            rules = await self._served.rules(project)
            digest, made = self._made.get(key, ("", None))
            if made is None or digest != rules.digest:
                made = await asyncio.to_thread(
                    make_document, rules.ruleset, rules.flags, dialect, made
                )
                self._made[key] = rules.digest, made
                left_out = made.left_out
                _LOG.info(
                    "flag document made",
                    extra={
                        "project": project,
                        "dialect": dialect.value,
                        "config_version": made.config_version,
                        "size_bytes": len(made.text),
                        "left_out": len(left_out),
                        "first_left_out": dict(list(left_out.items())[:_SHOWN]),
                    },
                )
            return made


@dataclass(frozen=True, slots=True)
class SyncServicer:
    """Sends documents. Changes that come within `debounce_s` of one another are sent together."""

    served: ServedFlags
    documents: Documents
    places: StreamPlaces
    debounce_s: float = DEBOUNCE_S

    async def SyncFlags(
        self, request: pb.SyncFlagsRequest, context: Any
    ) -> AsyncIterator[pb.SyncFlagsResponse]:
        """The whole document at once, and again whenever the configuration changes."""
        found = selected(request, context)
        with self.places.place(found.flag_set):
            sent: Document | None = None
            async for _ in self.served.changes(found.flag_set):
                if sent is not None:
                    await asyncio.sleep(self.debounce_s)
                document = await self.documents.newest(found.flag_set, found.dialect)
                if document is sent:
                    continue
                sent = document
                yield pb.SyncFlagsResponse(
                    flag_configuration=document.text,
                    sync_context=_context(found.flag_set, document.config_version),
                )

    async def FetchAllFlags(
        self, request: pb.FetchAllFlagsRequest, context: Any
    ) -> pb.FetchAllFlagsResponse:
        """The whole document."""
        found = selected(request, context)
        document = await self.documents.newest(found.flag_set, found.dialect)
        return pb.FetchAllFlagsResponse(flag_configuration=document.text)

    async def GetMetadata(
        self, request: pb.GetMetadataRequest, context: Any
    ) -> pb.GetMetadataResponse:
        """What SyncFlags sends as its context."""
        project = selected(request, context).flag_set
        rules = await self.served.rules(project)
        return pb.GetMetadataResponse(metadata=_context(project, rules.flags.config_version))


def _context(project: str, config_version: int) -> Struct:
    """Attributes of every evaluation. None is called `version`: that is the product's own."""
    made = Struct()
    made.update({"flagSetId": project, "configVersion": str(config_version)})
    return made
