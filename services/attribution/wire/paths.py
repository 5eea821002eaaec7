"""Questions of paths and their answers between messages and the domain."""

from touchstone.attribution.v1 import path_pb2 as pb
from touchstone.attribution.v1 import path_service_pb2 as service_pb

from services.attribution.application.paths import (
    BothLengths,
    Counted,
    GetFunnel,
    GetPathLengths,
    GetSequenceEffect,
    GetTimeLags,
    GetTransitions,
    PathQuestion,
    SequenceEffect,
)
from services.attribution.domain.paths.funnel import Figures, Funnel, Reach
from services.attribution.domain.paths.lags import (
    EDGES_US,
    LEVELS,
    Lags,
    LagTable,
    TimeLags,
)
from services.attribution.domain.paths.lengths import LengthBin, Lengths
from services.attribution.domain.paths.steps import Mark, State, Steps
from services.attribution.wire.answers import encode_provenance
from services.attribution.wire.times import encode_duration, microseconds

MAX_LENGTH = 20
_MARKS = {
    Mark.START: pb.PATH_STATE_KIND_START,
    Mark.CONVERSION: pb.PATH_STATE_KIND_CONVERSION,
    Mark.NULL: pb.PATH_STATE_KIND_NULL,
}


def decode_lengths(
    request: service_pb.GetPathLengthsRequest, asked: PathQuestion
) -> GetPathLengths:
    """What to count."""
    return GetPathLengths(asked, request.max_length or MAX_LENGTH)


def decode_lags(request: service_pb.GetTimeLagsRequest, asked: PathQuestion) -> GetTimeLags:
    """What to measure; INVALID_ARGUMENT where edges do not rise."""
    edges = (microseconds(f"edges[{n}]", edge) for n, edge in enumerate(request.edges))
    table = LagTable(
        levels=tuple(request.levels) or LEVELS,
        edges_us=tuple(edges) or EDGES_US,
        min_units=asked.min_units,
    )
    return GetTimeLags(asked, table)


def decode_transitions(
    request: service_pb.GetTransitionsRequest, asked: PathQuestion
) -> GetTransitions:
    """What to count."""
    return GetTransitions(asked, request.self_loops)


def decode_funnel(request: service_pb.GetFunnelRequest, asked: PathQuestion) -> GetFunnel:
    """What to follow."""
    steps = (Reach(tuple(step.channels), step.event_name) for step in request.steps)
    return GetFunnel(asked, tuple(steps))


def decode_sequence(
    request: service_pb.GetSequenceEffectRequest, asked: PathQuestion
) -> GetSequenceEffect:
    """What to take away."""
    return GetSequenceEffect(
        asked, tuple(request.sequence), request.order or 1, request.ignore_non_converting
    )


def encode_lengths(
    command: GetPathLengths, answer: Counted[BothLengths]
) -> service_pb.GetPathLengthsResponse:
    """The reply to GetPathLengths."""
    return service_pb.GetPathLengthsResponse(
        touches=_lengths(answer.found.touches),
        channels=_lengths(answer.found.channels),
        max_length=command.max_length,
        min_units=command.asked.min_units,
        provenance=encode_provenance(command.asked.question.definition, answer),
    )


def encode_lags(command: GetTimeLags, answer: Counted[TimeLags]) -> service_pb.GetTimeLagsResponse:
    """The reply to GetTimeLags."""
    return service_pb.GetTimeLagsResponse(
        first_touch=_lags(answer.found.first_touch),
        last_touch=_lags(answer.found.last_touch),
        between_touches=_lags(answer.found.between_touches),
        edges=[encode_duration(edge) for edge in command.table.edges_us],
        min_units=command.asked.min_units,
        provenance=encode_provenance(command.asked.question.definition, answer),
    )


def encode_transitions(
    command: GetTransitions, answer: Counted[Steps]
) -> service_pb.GetTransitionsResponse:
    """The reply to GetTransitions."""
    found = answer.found
    return service_pb.GetTransitionsResponse(
        transitions=[
            pb.PathTransition(
                source=_state(step.source),
                target=_state(step.target),
                units=step.units,
                count=step.count,
                probability=step.probability,
            )
            for step in found.steps
        ],
        suppressed_transitions=found.suppressed_steps,
        suppressed_count=found.suppressed_count,
        min_units=command.asked.min_units,
        provenance=encode_provenance(command.asked.question.definition, answer),
    )


def encode_funnel(command: GetFunnel, answer: Counted[Funnel]) -> service_pb.GetFunnelResponse:
    """The reply to GetFunnel."""
    found = answer.found
    return service_pb.GetFunnelResponse(
        rows=_rows(found.steps),
        channels=[
            pb.FunnelChannel(channel=each.channel, rows=_rows(each.steps))
            for each in found.by_channel
        ],
        suppressed=_rows(found.suppressed),
        suppressed_channels=found.suppressed_channels,
        absent_channels=answer.absent_channels,
        min_units=command.asked.min_units,
        provenance=encode_provenance(command.asked.question.definition, answer),
    )


def encode_sequence(
    command: GetSequenceEffect, answer: Counted[SequenceEffect]
) -> service_pb.GetSequenceEffectResponse:
    """The reply to GetSequenceEffect."""
    held, everyone = answer.found.held, answer.found.everyone
    return service_pb.GetSequenceEffectResponse(
        removal_effect=answer.found.removal_effect,
        units=None if held is None else held.units,
        journeys=None if held is None else held.journeys,
        conversions=None if held is None else held.conversions,
        all_units=None if everyone is None else everyone.units,
        all_conversions=None if everyone is None else everyone.conversions,
        order=command.order,
        absent_channels=answer.absent_channels,
        min_units=command.asked.min_units,
        provenance=encode_provenance(command.asked.question.definition, answer),
    )


def _lengths(found: Lengths) -> pb.PathLengths:
    return pb.PathLengths(
        bins=[_length(each) for each in found.bins],
        suppressed=None if found.suppressed is None else _length(found.suppressed),
        withheld_bins=found.withheld_bins,
    )


def _length(found: LengthBin) -> pb.LengthBin:
    return pb.LengthBin(
        length=found.length,
        units=found.units,
        journeys=found.journeys,
        conversions=found.conversions,
    )


def _lags(found: Lags) -> pb.LagDistribution:
    message = pb.LagDistribution(
        units=found.units,
        lags=found.lags,
        quantiles=[
            pb.LagQuantile(
                level=each.level,
                lag=None if each.lag_us is None else encode_duration(each.lag_us),
            )
            for each in found.quantiles
        ],
        withheld_bins=found.withheld_bins,
    )
    for each in found.bins:
        row = message.bins.add(units=each.units, lags=each.lags)
        row.at_least.CopyFrom(encode_duration(each.from_us))
        if each.to_us is not None:
            row.less_than.CopyFrom(encode_duration(each.to_us))
    if found.suppressed is not None:
        message.suppressed.units = found.suppressed.units
        message.suppressed.lags = found.suppressed.lags
    return message


def _state(state: State) -> pb.PathState:
    if isinstance(state, Mark):
        return pb.PathState(kind=_MARKS[state])
    return pb.PathState(kind=pb.PATH_STATE_KIND_CHANNEL, channel=state)


def _rows(steps: Figures) -> list[pb.FunnelRow]:
    return [
        pb.FunnelRow(
            step=number,
            figures=None
            if step is None
            else pb.FunnelFigures(
                units=step.units,
                journeys=step.journeys,
                conversions=step.conversions,
                left=step.left,
            ),
        )
        for number, step in enumerate(steps)
    ]
