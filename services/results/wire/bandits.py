"""Bandits and their weights as messages."""

from touchstone.results.v1 import bandit_service_pb2 as pb
from touchstone_statistics.bandit import Bandit, Policy

from services.results.application.bandit_weights import Computed, ComputeWeights
from services.results.domain.reading.bandits import Held
from services.results.ports import Handover
from services.results.wire.numbers import encode_number
from services.results.wire.removed import encode_removed
from shared.identity.wire import stitching_of
from shared.resource_names import require_id, resource_name

USUAL = Bandit()
POLICIES = {
    pb.BANDIT_POLICY_UNSPECIFIED: Policy.THOMPSON,
    pb.BANDIT_POLICY_THOMPSON: Policy.THOMPSON,
    pb.BANDIT_POLICY_TOP_TWO: Policy.TOP_TWO,
}
HOLD_OF = {
    None: pb.BANDIT_HOLD_UNSPECIFIED,
    Held.TOO_FEW_UNITS: pb.BANDIT_HOLD_TOO_FEW_UNITS,
    Held.NO_PERIOD: pb.BANDIT_HOLD_NO_PERIOD,
    Held.NO_POSTERIOR: pb.BANDIT_HOLD_NO_POSTERIOR,
    Held.PERIODS_UNKNOWN: pb.BANDIT_HOLD_PERIODS_UNKNOWN,
    Held.TOO_MANY_PERIODS: pb.BANDIT_HOLD_TOO_MANY_PERIODS,
}


def decode_weights(
    request: pb.ComputeBanditWeightsRequest | pb.ApplyBanditWeightsRequest, project: str
) -> ComputeWeights:
    """Which weights are asked for."""
    rule = request.rule
    return ComputeWeights(
        project=project,
        experiment_id=require_id(request.experiment, project, "experiments"),
        metric_id=require_id(rule.metric, project, "metrics"),
        rule=Bandit(
            policy=POLICIES[rule.policy],
            floor=rule.floor if rule.HasField("floor") else USUAL.floor,
            least_units=rule.least_units or USUAL.least_units,
        ),
        as_of=request.as_of,
        stitching=stitching_of(rule.stitching),
    )


def decode_handover(request: pb.ApplyBanditWeightsRequest) -> Handover:
    """How the weights are to be handed over."""
    return Handover(request.etag, request.request_id, request.validate_only)


def encode_weights(computed: Computed, project: str, engine_version: str) -> pb.BanditWeights:
    """The weights, and what they follow from."""
    learned, lift = computed.learned, computed.prior.lift
    return pb.BanditWeights(
        experiment=resource_name(project, "experiments", computed.plan.experiment_id),
        arms=[_arm(computed, place) for place in range(len(computed.plan.arms))],
        hold=HOLD_OF[learned.held],
        periods=[
            pb.BanditPeriod(config_version=one.config_version, units=one.units, counts=one.counts)
            for one in learned.periods
        ],
        watermark=computed.cut.token,
        etag=computed.experiment.etag,
        prior=f"normal on the lift, mean {lift.mean:g}, standard deviation {lift.std_dev:g}",
        prior_source=computed.prior.source,
        engine_version=engine_version,
        removed_since=encode_removed(computed.removed),
    )


def _arm(computed: Computed, place: int) -> pb.BanditArm:
    arm, learned = computed.plan.arms[place], computed.learned
    if place not in learned.arms:
        return pb.BanditArm(variant=arm.variant, current_weight=arm.weight, dropped=True)
    index, found = learned.arms.index(place), learned.estimate
    return pb.BanditArm(
        variant=arm.variant,
        units=int(found.units[index]),
        mean=encode_number(found.value, found.gap, index),
        std_err=encode_number(found.std_err, found.spread_gap, index),
        probability_best=encode_number(learned.best.probability, learned.best.gap, index),
        current_weight=arm.weight,
        weight=int(learned.weights[index]),
    )
