"""Links as they are kept."""

from collections.abc import Sequence

from services.attribution.application.calibration_links import link_name
from services.attribution.application.calibration_ports import LinkStore, StoredLink
from services.attribution.limits import KeptLimits, require_room
from shared import errors

MOST_LINKS = 50
"""So many links one report is calibrated with; each is read from another service."""

MOST_KNOWN = 1000
"""So many links are looked through for channels that a test switched, too."""


def find_link(project: str, link_id: str, store: LinkStore) -> StoredLink:
    """The link; NOT_FOUND when the project has none of this id."""
    found = store.get(project, link_id)
    if found is None:
        raise errors.not_found("calibration link", link_name(project, link_id))
    return found


def create_link(link: StoredLink, store: LinkStore, limits: KeptLimits) -> None:
    """Keep a new link.

    ALREADY_EXISTS when the id is taken, RESOURCE_EXHAUSTED when the project has as many as it may.
    """
    if store.get(link.project, link.link_id) is None:
        there = store.count(link.project)
        require_room("calibration links", there, 1, limits.max_calibration_links)
    store.insert(link)


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


def other_links(project: str, used: Sequence[StoredLink], store: LinkStore) -> Sequence[StoredLink]:
    """The other links of the project, the first `MOST_KNOWN` by id: they say what else a test
    switched.
    """
    ids = {link.link_id for link in used}
    return [link for link in store.page(project, "", MOST_KNOWN) if link.link_id not in ids]
