"""The ids of an audience by list: uploaded in parts, and put in place all at once."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from touchstone_assignment.conditions.id_set import FINGERPRINT_BYTES, digest_of

from services.assignment.application.find_resource import Which, find_resource
from services.assignment.domain.audience import Audience, ListedIds
from services.assignment.domain.limits import LIMITS, Limits
from services.assignment.ports import Configuration, Upload
from shared import errors

_WRITTEN = ">u8"


@dataclass(frozen=True, slots=True)
class UploadIds:
    """A part of an upload; `fingerprints` as `id_set` writes them."""

    upload: Upload
    part: int
    fingerprints: bytes


@dataclass(frozen=True, slots=True)
class CommitIds:
    """Which upload to put in place, and of how many parts it is."""

    upload: Upload
    parts: int
    etag: str = ""


def upload_ids(
    command: UploadIds, configuration: Configuration, now: datetime, limits: Limits = LIMITS
) -> int:
    """Keeps the part; how many parts the upload has now.

    NOT_FOUND, FAILED_PRECONDITION for an audience by condition, RESOURCE_EXHAUSTED when more ids
    wait in the project's uploads than may. Nobody's membership changes.
    """
    upload, lists = command.upload, configuration.id_lists
    _listed(find_resource(configuration.audiences, "audience", _which(upload)))
    lists.sweep(now - timedelta(seconds=limits.upload_kept_s))
    lists.put_part(upload, command.part, command.fingerprints, now)
    waiting = lists.waiting(upload.project)
    if waiting > limits.max_waiting_ids:
        what = "ids in uploads of the project that are not committed"
        raise errors.limit_exceeded(what, waiting, limits.max_waiting_ids)
    return len(lists.parts(upload))


def commit_ids(
    command: CommitIds, configuration: Configuration, now: datetime, limits: Limits = LIMITS
) -> Audience:
    """The audience with the uploaded list in the place of the one before; the upload is over.

    NOT_FOUND, ABORTED on a stale etag, FAILED_PRECONDITION for an audience by condition or when the
    parts are not those that were received, RESOURCE_EXHAUSTED for more ids than a list may have.
    The same list again changes nothing.
    """
    upload, lists = command.upload, configuration.id_lists
    old = find_resource(configuration.audiences, "audience", _which(upload, command.etag))
    listed = _listed(old)
    lists.sweep(now - timedelta(seconds=limits.upload_kept_s))
    fingerprints = _merged(command, configuration)
    count = len(fingerprints) // FINGERPRINT_BYTES
    if count > limits.max_listed_ids:
        raise errors.limit_exceeded("different ids of an audience", count, limits.max_listed_ids)
    digest = digest_of(fingerprints)
    lists.forget(upload)
    if digest == listed.digest:
        return old
    lists.put(upload.project, digest, fingerprints)
    new = replace(
        old,
        members=replace(listed, count=count, digest=digest),
        config_version=configuration.next_revision(upload.project, now).config_version,
        update_time=now,
    )
    configuration.audiences.replace(old, new)
    return new


def _merged(command: CommitIds, configuration: Configuration) -> bytes:
    """The fingerprints of all parts: ascending, each once."""
    lists, upload = configuration.id_lists, command.upload
    received = lists.parts(upload)
    if list(received) != list(range(command.parts)):
        raise errors.failed_precondition("WRONG_STATE", _difference(command, set(received)))
    parts = [np.frombuffer(lists.part(upload, part), dtype=_WRITTEN) for part in received]
    # Sorting needs the machine's own order of bytes to be fast.
    return np.unique(np.concatenate(parts).astype(np.uint64)).astype(_WRITTEN).tobytes()


def _difference(command: CommitIds, received: set[int]) -> str:
    upload, parts = command.upload, command.parts
    if not received:
        return (
            f"upload {upload.upload_id!r} has no parts: it was committed already, or waited longer "
            "than a day; upload its ids again"
        )
    missing = sorted(set(range(parts)) - received)[:10]
    more = sorted(received - set(range(parts)))[:10]
    return (
        f"upload {upload.upload_id!r} has {len(received)} parts, not {parts}: missing are "
        f"{missing or 'none'}, beyond the last are {more or 'none'}; send what is missing, or "
        "commit the number of parts that it has"
    )


def _listed(found: Audience) -> ListedIds:
    if found.id_list is None:
        raise errors.wrong_state(
            f"audience {found.resource_id}", "by condition", "uploading ids", "one by id list"
        )
    return found.id_list


def _which(upload: Upload, etag: str = "") -> Which:
    return Which(upload.project, upload.audience_id, etag)
