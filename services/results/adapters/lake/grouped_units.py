"""To which cluster and which window of time the exposures of an experiment belong."""

from ibis import ir

from services.results.adapters.lake.parts import microseconds
from services.results.domain.clustering import Clustering, Switchback
from services.results.domain.observation import Question
from shared.identity.events import OwnedEvents, owned_events
from shared.identity.ownership import Ownership

CLUSTER, PERIOD = "cluster", "period"


def cluster_columns(question: Question) -> tuple[str, ...]:
    """The columns of exposures that say to which cluster a unit belongs."""
    clustering = question.clustering
    if clustering is None:
        return ()
    named = (CLUSTER,) if clustering.named else ()
    return named if clustering.switchback is None else (*named, PERIOD)


def with_linked_cluster(rows: ir.Table, clustering: Clustering, ownership: Ownership) -> ir.Table:
    """Exposures with the unit of the cluster's type that each belongs to; null where there is none
    or where there could be several.
    """
    of_type = Ownership(clustering.unit_type, ownership.identity, ownership.stitching, as_key=True)
    owned = owned_events(rows, ("event_time", "event_id"), of_type).rows
    clusters = owned.group_by(clustered_event=owned.event_id).aggregate(
        **{CLUSTER: owned.unit_key.min().cast("string")}
    )
    joined = rows.left_join(clusters, rows.event_id == clusters.clustered_event)
    return joined.drop("clustered_event")


def in_windows(rows: OwnedEvents, switchback: Switchback | None, exposures: bool) -> OwnedEvents:
    """Each unit as another unit in each window of time; exposures in the burn-in are left out."""
    if switchback is None:
        return rows
    period = microseconds(switchback.period)
    table = rows.rows
    if exposures:
        table = table.filter(table.us % period >= microseconds(switchback.burn_in))
    number = table.us // period
    key = table.unit_key.cast("string") + "@" + number.cast("string")
    window = {PERIOD: number} if exposures else {}
    return OwnedEvents(table.mutate(unit_key=key, **window), rows.ambiguous)
