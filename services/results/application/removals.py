"""Whether a cut still holds what it held when results were first read at it."""

from services.results.domain.look import Cut
from services.results.domain.removed import UNKNOWN, Removed
from services.results.ports import MomentsSource, PlanReader
from shared.lake.watermark import ConsistencyToken


def removed_since(
    project: str, token: str, as_of: str, plans: PlanReader, moments: MomentsSource
) -> Removed | None:
    """What was erased, or removed by retention, from the cut of a token since results were first
    read at it; None for nothing. The first time at the newest cut (`as_of` is empty) what it
    holds is noted.
    """
    if not token:
        return None
    place = ConsistencyToken.decode(token)
    cut = Cut(place.journal_id, place.position)
    held = moments.rows_at(project, token)
    with plans.read() as store:
        noted = store.rows_at(project, cut)
    if noted is None and as_of:
        return UNKNOWN
    if noted is None:
        with plans.begin() as store:
            store.note_rows(project, cut, held)
        return None
    gone = noted.without(held)
    return gone if gone.any else None
