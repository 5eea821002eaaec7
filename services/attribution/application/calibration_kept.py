"""Links as they are kept."""

from collections.abc import Sequence

from services.attribution.application.calibration_links import link_name
from services.attribution.application.calibration_ports import LinkStore, StoredLink
from shared import errors

MOST_LINKS = 50
"""So many links one report is calibrated with; each is read from another service."""


def find_link(project: str, link_id: str, store: LinkStore) -> StoredLink:
    """The link; NOT_FOUND when the project has none of this id."""
    found = store.get(project, link_id)
    if found is None:
        raise errors.not_found("calibration link", link_name(project, link_id))
    return found


def delete_link(project: str, link_id: str, store: LinkStore) -> None:
    """Delete the link; NOT_FOUND when the project has none of this id."""
    if not store.delete(project, link_id):
        raise errors.not_found("calibration link", link_name(project, link_id))


def links_to_use(project: str, named: Sequence[str], store: LinkStore) -> Sequence[StoredLink]:
    """The links of these ids, by id; all of the project where none is named.

    NOT_FOUND for one that is not there, RESOURCE_EXHAUSTED when the project has more than
    `MOST_LINKS` and none is named.
    """
    if named:
        return [find_link(project, link_id, store) for link_id in sorted(named)]
    found = store.page(project, "", MOST_LINKS + 1)
    if len(found) > MOST_LINKS:
        raise errors.limit_exceeded("calibration links of one report", "all", MOST_LINKS)
    return found
