"""What the enums of metrics are called in messages and in the domain."""

from touchstone.results.v1 import metric_pb2 as pb

from services.results.domain.measure import Aggregation, MetricKind
from services.results.domain.metric import Direction, MetricRole

KINDS = {
    pb.METRIC_KIND_PROPORTION: MetricKind.PROPORTION,
    pb.METRIC_KIND_MEAN: MetricKind.MEAN,
    pb.METRIC_KIND_RATIO: MetricKind.RATIO,
    pb.METRIC_KIND_QUANTILE: MetricKind.QUANTILE,
    pb.METRIC_KIND_FUNNEL: MetricKind.FUNNEL,
    pb.METRIC_KIND_RETENTION: MetricKind.RETENTION,
    pb.METRIC_KIND_TIME_TO_EVENT: MetricKind.TIME_TO_EVENT,
}
DIRECTIONS = {
    pb.DIRECTION_UNSPECIFIED: Direction.INCREASE,
    pb.DIRECTION_INCREASE: Direction.INCREASE,
    pb.DIRECTION_DECREASE: Direction.DECREASE,
}
ROLES = {
    pb.METRIC_ROLE_UNSPECIFIED: MetricRole.SECONDARY,
    pb.METRIC_ROLE_PRIMARY: MetricRole.PRIMARY,
    pb.METRIC_ROLE_SECONDARY: MetricRole.SECONDARY,
    pb.METRIC_ROLE_GUARDRAIL: MetricRole.GUARDRAIL,
}
AGGREGATIONS = {
    pb.AGGREGATION_UNSPECIFIED: Aggregation.SUM,
    pb.AGGREGATION_SUM: Aggregation.SUM,
    pb.AGGREGATION_COUNT: Aggregation.COUNT,
    pb.AGGREGATION_MEAN: Aggregation.MEAN,
    pb.AGGREGATION_MIN: Aggregation.MIN,
    pb.AGGREGATION_MAX: Aggregation.MAX,
    pb.AGGREGATION_FIRST: Aggregation.FIRST,
    pb.AGGREGATION_LAST: Aggregation.LAST,
    pb.AGGREGATION_DISTINCT_DAYS: Aggregation.DISTINCT_DAYS,
}
# Where two numbers mean the same, the later one is how it is written.
KIND_OF = {kind: number for number, kind in KINDS.items()}
DIRECTION_OF = {direction: number for number, direction in DIRECTIONS.items()}
ROLE_OF = {role: number for number, role in ROLES.items()}
AGGREGATION_OF = {aggregation: number for number, aggregation in AGGREGATIONS.items()}
