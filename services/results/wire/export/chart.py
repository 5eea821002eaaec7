"""Intervals as small drawings, each with the words that it shows."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from touchstone.results.v1 import results_pb2 as pb

from services.results.wire.export.cells import missing
from services.results.wire.export.words import enum_word

WIDTH, HEIGHT, MARGIN = 200.0, 18.0, 6.0
DIFFERS, PLAIN = "#0b4f9e", "#5a5a5a"


@dataclass(frozen=True, slots=True)
class Scale:
    """From lifts to places: 0 is in the middle, `reach` at the margin."""

    reach: float

    @staticmethod
    def of(intervals: Iterable[pb.Interval]) -> "Scale":
        """A scale on which every bounded end is seen."""
        far = [
            abs(end)
            for one in intervals
            if not missing(one)
            for end, open_end in (
                (one.low, one.low_unbounded),
                (one.high, one.high_unbounded),
            )
            if not open_end
        ]
        return Scale(max(far, default=0.0) or 1.0)

    def place(self, lift: float) -> float:
        """Where a lift is drawn; beyond the reach at the edge."""
        share = max(-1.0, min(1.0, lift / self.reach))
        return WIDTH / 2.0 + share * (WIDTH / 2.0 - MARGIN)


def interval_words(interval: pb.Interval, form: str = "{:+.2%}") -> str:
    """The interval, of a lift in percent."""
    if missing(interval):
        return enum_word(interval, "not_estimable").replace("_", " ")
    low = "no lower end" if interval.low_unbounded else form.format(interval.low)
    high = "no upper end" if interval.high_unbounded else form.format(interval.high)
    if interval.low_unbounded and interval.high_unbounded:
        return "unbounded"
    return f"outside {low} to {high}" if interval.complement else f"{low} to {high}"


def interval_chart(interval: pb.Interval, lift: pb.Estimate, scale: Scale) -> str:
    """A line for the interval, a dot for the estimate and a mark at no effect; nothing for none."""
    if missing(interval):
        return ""
    left = 0.0 if interval.low_unbounded else scale.place(interval.low)
    right = WIDTH if interval.high_unbounded else scale.place(interval.high)
    lines = [(0.0, left), (right, WIDTH)] if interval.complement else [(left, right)]
    colour = DIFFERS if excludes_none(interval) else PLAIN
    half = HEIGHT / 2.0
    drawn = "".join(
        f'<line x1="{start:.1f}" y1="{half}" x2="{stop:.1f}" y2="{half}" stroke="{colour}" '
        'stroke-width="4"/>'
        for start, stop in lines
    )
    dot = ""
    if lift.WhichOneof("result") == "value":
        dot = f'<circle cx="{scale.place(lift.value):.1f}" cy="{half}" r="4" fill="{colour}"/>'
    label = escape(f"interval of the lift: {interval_words(interval)}", quote=True)
    return (
        f'<svg width="{WIDTH:.0f}" height="{HEIGHT:.0f}" role="img" aria-label="{label}">'
        f'<line x1="{WIDTH / 2:.1f}" y1="0" x2="{WIDTH / 2:.1f}" y2="{HEIGHT:.0f}" '
        f'stroke="#767676"/>{drawn}{dot}</svg>'
    )


def excludes_none(interval: pb.Interval) -> bool:
    """Whether a lift of 0 is not in the interval."""
    if missing(interval):
        return False
    if interval.complement:
        return interval.low < 0.0 < interval.high
    above = not interval.low_unbounded and interval.low > 0.0
    return above or (not interval.high_unbounded and interval.high < 0.0)
