"""Why an experiment is read by its rule, as a message."""

from touchstone.results.v1 import results_pb2 as pb

from services.results.domain.analysis_plan import AnalysisMethod
from services.results.domain.choice import Choice, Reason

REASONS = {
    Reason.NAMED: pb.METHOD_REASON_NAMED,
    Reason.PLANNED_UNITS: pb.METHOD_REASON_PLANNED_UNITS,
    Reason.FORECAST: pb.METHOD_REASON_FORECAST,
    Reason.TOO_EARLY: pb.METHOD_REASON_TOO_EARLY,
    Reason.NO_END: pb.METHOD_REASON_NO_END,
    Reason.LOOKS_TAKEN: pb.METHOD_REASON_LOOKS_TAKEN,
}


def encode_choice(choice: Choice) -> pb.MethodChoice:
    """The reason, in a name and in words, and what the rule goes towards."""
    planned = 0 if choice.early else choice.plan.planned_units
    message = pb.MethodChoice(
        reason=REASONS[choice.reason], message=_words(choice), planned_units=planned
    )
    if choice.end is not None:
        message.planned_end_time.FromDatetime(choice.end)
    return message


def _words(choice: Choice) -> str:
    units = f"{choice.plan.planned_units:,}"
    end = "" if choice.end is None else f"{choice.end:%Y-%m-%d %H:%M} UTC"
    match choice.reason:
        case Reason.NAMED:
            return "the analysis plan names the method"
        case Reason.PLANNED_UNITS:
            return f"{units} units are planned, and looks towards an end cost least"
        case Reason.FORECAST:
            return f"it ends on {end}, and {units} units are expected until then by its traffic"
        case Reason.TOO_EARLY:
            return f"it ends on {end}; looks begin when there is a day of traffic to forecast from"
        case Reason.LOOKS_TAKEN:
            return "looks were taken before an end was known, and they hold without one"
        case Reason.NO_END:
            assert choice.plan.rule is AnalysisMethod.ANYTIME
            return "neither a number of units nor an end is planned"
