"""From the messages of AudienceService to commands; what one cannot mean is INVALID_ARGUMENT."""

from touchstone.assignment.v1 import audience_pb2
from touchstone.assignment.v1 import audience_service_pb2 as pb
from touchstone_assignment.conditions.id_set import fingerprint, written

from services.assignment.application.audience_ids import CommitIds, UploadIds
from services.assignment.application.audiences import (
    FIELDS,
    CheckMembers,
    CreateAudience,
    UpdateAudience,
)
from services.assignment.application.find_resource import Which
from services.assignment.domain.audience import ListedIds
from services.assignment.ports import Upload
from services.assignment.wire.condition_text import condition_text
from services.assignment.wire.decode_assign import subjects
from shared import errors
from shared.resource_names import require_id

COLLECTION = "audiences"


def create(request: pb.CreateAudienceRequest, project: str) -> CreateAudience:
    """The command of a request whose parent is the caller's project."""
    sent = request.audience
    return CreateAudience(
        project=project,
        audience_id=request.audience_id,
        members=_members(sent, project),
        display_name=sent.display_name,
        description=sent.description,
    )


def update(request: pb.UpdateAudienceRequest, project: str) -> UpdateAudience:
    """The command: the fields that the mask names, with their new values."""
    sent, paths = request.audience, list(request.update_mask.paths)
    allowed = f"paths among {', '.join(FIELDS)}; the ids of a list come by UploadAudienceIds"
    changes: dict[str, str] = {}
    for path in paths or [""]:
        if path not in FIELDS:
            raise errors.invalid("update_mask", path, allowed)
        if path == "condition":
            changes[path] = _condition(sent, project)
        else:
            changes[path] = sent.description if path == "description" else sent.display_name
    which = Which(project, require_id(sent.name, project, COLLECTION), sent.etag)
    return UpdateAudience(which, changes)


def upload(request: pb.UploadAudienceIdsRequest, project: str) -> UploadIds:
    """The part. Of 50,000 ids this takes a tenth of a second, so call it from a thread."""
    where = Upload(project, require_id(request.name, project, COLLECTION), request.upload_id)
    return UploadIds(where, request.part, written(map(fingerprint, request.ids)))


def commit(request: pb.CommitAudienceIdsRequest, project: str) -> CommitIds:
    """The command."""
    where = Upload(project, require_id(request.name, project, COLLECTION), request.upload_id)
    return CommitIds(where, request.parts, request.etag)


def check(request: pb.TestAudienceRequest, project: str, now_s: float) -> CheckMembers:
    """The command: the units with their ids and attributes."""
    which = Which(project, require_id(request.name, project, COLLECTION))
    return CheckMembers(which, subjects(request.units, now_s))


def _members(sent: audience_pb2.Audience, project: str) -> str | ListedIds:
    kind = sent.WhichOneof("members")
    if kind is None:
        raise errors.invalid("audience.members", "absent", "a condition or an id_list")
    if kind == "id_list":
        return ListedIds(sent.id_list.unit_type)
    return _condition(sent, project)


def _condition(sent: audience_pb2.Audience, project: str) -> str:
    if sent.WhichOneof("members") != "condition":
        raise errors.invalid("audience.condition", "absent", "a condition")
    return condition_text(sent.condition, project, "audience.condition")
