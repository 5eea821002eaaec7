"""How far the results of a report differ."""

import numpy as np
from touchstone.attribution.v1 import attribution_pb2
from touchstone.attribution.v1 import report_service_pb2 as pb

from services.attribution.domain.divergence import Divergence, divergence_table
from services.attribution.ports import StoredReport
from services.attribution.wire.reports import encode_report


def compared_models(stored: StoredReport) -> pb.CompareModelsResponse:
    """Every pair of results that divide conversions; those that credit nothing have no shares.

    The channels that are not told of alone count as one, whose name is empty.
    """
    report = encode_report(stored)
    results = report.results
    names = tuple(channel.channel for channel in _rows(results[0])) if results else ()
    shares = {}
    for index, result in enumerate(results):
        credited = np.array([channel.conversions for channel in _rows(result)])
        if result.additive and credited.sum() > 0:
            shares[str(index)] = credited / credited.sum()
    of_index = {str(index): result.model_name for index, result in enumerate(results)}
    pairs = divergence_table(shares, names)
    return pb.CompareModelsResponse(
        pairs=[_pair(pair, of_index) for pair in pairs], fits=report.fits
    )


def _rows(result: attribution_pb2.ModelResult) -> list[attribution_pb2.ChannelCredit]:
    suppressed = [result.suppressed] if result.HasField("suppressed") else []
    return [*result.channels, *suppressed]


def _pair(pair: Divergence, names: dict[str, str]) -> pb.ModelDivergence:
    return pb.ModelDivergence(
        left_index=int(pair.left),
        left=names[pair.left],
        right_index=int(pair.right),
        right=names[pair.right],
        total_variation=pair.total_variation,
        rank_correlation=pair.rank_correlation,
        channels=[
            pb.ChannelDivergence(channel=one.channel, left=one.left, right=one.right)
            for one in pair.channels
        ],
    )
