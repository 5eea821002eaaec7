"""Kept channel groupings between messages and what is stored of them."""

from touchstone.attribution.v1 import attribution_pb2 as pb

from services.attribution.application.channel_groupings import (
    COLLECTION,
    Patch,
    find_grouping,
    grouping_name,
)
from services.attribution.ports import GroupingStore, StoredGrouping
from services.attribution.wire.grouping import decode_grouping, encode_grouping, is_reference
from shared import errors
from shared.resource_names import require_id

DECIDED = ("rules", "otherwise", "display_name", "description")
"""What the owner of a grouping decides, and an update may change."""
_RULES = ("rules", "otherwise")
_PATH = "channel_grouping"


def document_of(message: pb.ChannelGrouping) -> bytes:
    """What is stored of a grouping; INVALID_ARGUMENT where it names no channel at all."""
    if not message.rules and not message.otherwise:
        raise errors.invalid(f"{_PATH}.rules", "none", "at least one rule, or `otherwise`")
    made = _decided(message)
    plain = pb.ChannelGrouping(rules=made.rules, otherwise=made.otherwise)
    made.ClearField("rules")
    made.MergeFrom(encode_grouping(decode_grouping(plain, _PATH)))
    return made.SerializeToString(deterministic=True)


def decode_patch(message: pb.ChannelGrouping, paths: list[str]) -> Patch:
    """The change that an update asks for; INVALID_ARGUMENT for a field that cannot change."""
    allowed = f"one or more of {', '.join(DECIDED)}"
    wrong = next((path for path in paths if path not in DECIDED), None)
    if wrong is not None or not paths:
        raise errors.invalid("update_mask", wrong or "", allowed)

    def patch(document: bytes) -> bytes:
        merged, changes = pb.ChannelGrouping.FromString(document), _decided(message)
        for field in DECIDED:
            # What the mask names is taken from the request, also when it is empty there.
            (merged if field in paths else changes).ClearField(field)  # type: ignore[arg-type]
        merged.MergeFrom(changes)
        return document_of(merged)

    return patch


def encode_kept(stored: StoredGrouping) -> pb.ChannelGrouping:
    """A grouping as its owner sees it."""
    message = encode_version(stored)
    message.etag = stored.etag
    return message


def encode_version(stored: StoredGrouping) -> pb.ChannelGrouping:
    """A grouping as it was, which cannot be written back: no etag."""
    message = pb.ChannelGrouping.FromString(stored.document)
    message.name = grouping_name(stored.project, stored.grouping_id)
    message.version = stored.version
    message.create_time.FromDatetime(stored.create_time)
    message.update_time.FromDatetime(stored.update_time)
    return message


def resolved_definition(
    message: pb.JourneyDefinition, project: str, store: GroupingStore
) -> pb.JourneyDefinition:
    """The definition with the rules and the version of the grouping that it names.

    INVALID_ARGUMENT when it states other rules beside the name, NOT_FOUND when there is no such
    grouping or version.
    """
    asked = message.channel_grouping
    if not asked.name:
        return message
    kept = kept_grouping(asked, project, store)
    found = pb.ChannelGrouping(name=kept.name, version=kept.version)
    found.MergeFrom(_rules(kept))
    if not is_reference(asked) and _rules(asked) != _rules(kept):
        raise errors.invalid(
            "journeys.channel_grouping.rules",
            f"other than those of {kept.name} at version {kept.version}",
            "the name alone, or rules without a name",
        )
    resolved = pb.JourneyDefinition()
    resolved.CopyFrom(message)
    resolved.channel_grouping.CopyFrom(found)
    return resolved


def kept_grouping(
    message: pb.ChannelGrouping, project: str, store: GroupingStore
) -> pb.ChannelGrouping:
    """The grouping that the message names; NOT_FOUND when there is no such one."""
    grouping_id = require_id(message.name, project, COLLECTION)
    return encode_kept(find_grouping(project, grouping_id, store, message.version))


def _decided(message: pb.ChannelGrouping) -> pb.ChannelGrouping:
    return _only(message, DECIDED)


def _rules(message: pb.ChannelGrouping) -> pb.ChannelGrouping:
    return _only(message, _RULES)


def _only(message: pb.ChannelGrouping, fields: tuple[str, ...]) -> pb.ChannelGrouping:
    made = pb.ChannelGrouping()
    made.CopyFrom(message)
    for field in made.DESCRIPTOR.fields:
        if field.name not in fields:
            made.ClearField(field.name)  # type: ignore[arg-type]
    return made
