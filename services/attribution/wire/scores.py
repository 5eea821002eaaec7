"""Credits of reports between messages and the domain."""

import base64
import binascii
import json

from touchstone.attribution.v1 import score_service_pb2 as pb
from touchstone.common.v1 import unit_pb2

from services.attribution.application.explain import Explanation, Judged, Outcome, Verdict
from services.attribution.application.stream_credits import CreditPage
from services.attribution.domain.models import (
    AskedModel,
    Markov,
    Model,
    divides_conversions,
    output_of,
)
from services.attribution.ports import StoredReport
from services.attribution.wire.answers import encode_credit
from services.attribution.wire.models import decode_model
from services.attribution.wire.reports import encode_report
from services.attribution.wire.times import encode_duration, encode_time
from shared.errors import invalid

_OUTCOMES = {
    Outcome.CREDITED: pb.CONVERSION_OUTCOME_CREDITED,
    Outcome.WITHOUT_TOUCH: pb.CONVERSION_OUTCOME_WITHOUT_TOUCH,
    Outcome.LEFT_OUT: pb.CONVERSION_OUTCOME_LEFT_OUT,
}
_VERDICTS = {
    Verdict.COUNTS: pb.TOUCH_VERDICT_COUNTS,
    Verdict.OUTSIDE_WINDOW: pb.TOUCH_VERDICT_OUTSIDE_WINDOW,
    Verdict.NOT_ASSOCIATED: pb.TOUCH_VERDICT_NOT_ASSOCIATED,
    Verdict.DIRECT: pb.TOUCH_VERDICT_DIRECT,
    Verdict.BEFORE_PREVIOUS_CONVERSION: pb.TOUCH_VERDICT_BEFORE_PREVIOUS_CONVERSION,
    Verdict.TOO_MANY: pb.TOUCH_VERDICT_TOO_MANY,
    Verdict.TRANSFORMED: pb.TOUCH_VERDICT_TRANSFORMED,
    Verdict.CONVERSION_LEFT_OUT: pb.TOUCH_VERDICT_CONVERSION_LEFT_OUT,
}


def decode_result(stored: StoredReport, index: int) -> AskedModel:
    """The model of a result; INVALID_ARGUMENT for one that divides no single conversion."""
    results = encode_report(stored).results
    if index >= len(results):
        raise invalid("result_index", index, f"0 to {len(results) - 1}")
    model = decode_model(results[index].model)
    if results[index].model_name == "markov_removal_share" or not divides_conversions(model):
        raise invalid(
            "result_index",
            f"{index}, which is {results[index].model_name}",
            "a result that divides each conversion; this one divides totals alone",
        )
    return model


def decode_place(stored: StoredReport, index: int, token: str) -> int:
    """How many credits arrived before; INVALID_ARGUMENT for a token of another stream."""
    if not token:
        return 0
    try:
        digest, result, place = json.loads(base64.urlsafe_b64decode(token.encode()))
        whole = type(place) is int and 0 <= place <= encode_report(stored).scores
        known = whole and [digest, result] == _stream(stored, index)
    except (ValueError, TypeError, binascii.Error):
        known = False
    if not known:
        allowed = "one that StreamScores gave for this report and result, or empty"
        raise invalid("resume_token", token, allowed)
    return int(place)


def encode_place(stored: StoredReport, index: int, place: int) -> str:
    """The token that goes on behind so many credits."""
    data = json.dumps([*_stream(stored, index), place], separators=(",", ":"))
    return base64.urlsafe_b64encode(data.encode()).decode()


def _stream(stored: StoredReport, index: int) -> list[str | int]:
    return [encode_report(stored).digest, index]


def encode_scores(
    page: CreditPage, unit_type: str, identity_version: str, token: str
) -> pb.StreamScoresResponse:
    """A part of the stream."""
    rows = range(len(page.weights))
    return pb.StreamScoresResponse(
        credits=[encode_credit(page, row, unit_type, identity_version) for row in rows],
        resume_token=token,
    )


def encode_explanation(
    conversion_id: str, unit_type: str, found: Explanation
) -> pb.GetConversionCreditsResponse:
    """Why a conversion has the credits that it has."""
    return pb.GetConversionCreditsResponse(
        conversion_id=conversion_id,
        unit=unit_pb2.UnitId(type=unit_type, id=found.unit_id),
        conversion_time=encode_time(found.time_us),
        value=found.value,
        outcome=_OUTCOMES[found.outcome],
        touches=[_judged(touch) for touch in found.touches],
        model_names=[_name(model) for model in found.models],
    )


def _judged(touch: Judged) -> pb.JudgedTouch:
    return pb.JudgedTouch(
        touch_id=touch.touch_id,
        channel=touch.channel,
        touch_time=encode_time(touch.time_us),
        lookback=encode_duration(touch.lookback_us),
        verdict=_VERDICTS[touch.verdict],
        weights=touch.weights,
    )


def _name(model: Model) -> str:
    return "markov_path_credit" if isinstance(model, Markov) else output_of(model).value
