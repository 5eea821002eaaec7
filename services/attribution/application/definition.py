"""Which conversions are credited to which touches."""

from dataclasses import dataclass

from services.attribution.domain.grouping import AS_SENT, ChannelGrouping
from services.attribution.domain.journeys import DAY_US, Repeats
from services.attribution.domain.paths.transforms import PathTransform, TransformStep
from services.attribution.domain.visibility import DIRECT_CHANNELS, Direct, Window
from services.attribution.ports import Association, CreditKey, TouchField
from shared.errors import invalid
from shared.filters.filter import Filter
from shared.identity.belonging import Stitching

YEAR_1_US = -62_135_596_800_000_000
YEAR_10000_US = 253_402_300_800_000_000


@dataclass(frozen=True, slots=True)
class DirectRule:
    """What touches of the direct channels do."""

    handling: Direct = Direct.KEEP
    channels: tuple[str, ...] = DIRECT_CHANNELS


KEEP_DIRECT = DirectRule()


@dataclass(frozen=True, slots=True)
class JourneyDefinition:
    """Which conversions are credited to which touches.

    `start_us` (inclusive) and `end_us` (exclusive) bound the conversions, in microseconds since
    1970-01-01 UTC; None is unbounded. `stitching` says from when on a link between ids counts.
    `windows` have a lookback of their own. `max_touches` 0 is as many as the server allows.
    `transforms` are applied to the journeys in their order.
    """

    event_name: str
    unit_type: str = "user"
    lookback_us: int = 30 * DAY_US
    start_us: int | None = None
    end_us: int | None = None
    repeats: Repeats = Repeats.ALL
    stitching: Stitching = Stitching.RETROACTIVE
    conversion_filter: Filter | None = None
    touch_filter: Filter | None = None
    windows: tuple[Window, ...] = ()
    associations: tuple[Association, ...] = ()
    direct: DirectRule = KEEP_DIRECT
    credited: CreditKey = TouchField.CHANNEL
    max_touches: int = 0
    grouping: ChannelGrouping = AS_SENT
    transforms: tuple[TransformStep, ...] = ()

    def __post_init__(self) -> None:
        for name, time_us in (("start_time", self.start_us), ("end_time", self.end_us)):
            if time_us is not None and not YEAR_1_US <= time_us < YEAR_10000_US:
                raise invalid(f"journeys.{name}", f"{time_us / 1e6} s", "years 1 to 9999")
        if self.start_us is not None and self.end_us is not None and self.start_us >= self.end_us:
            raise invalid(
                "journeys.end_time",
                f"{(self.end_us - self.start_us) / 1e6} s after start_time",
                "a time later than start_time",
            )
        named = [(window.channel, window.interaction) for window in self.windows]
        for number, names in enumerate(named):
            if names in named[:number]:
                raise invalid(
                    f"journeys.windows[{number}]",
                    " / ".join(names),
                    "one window for each channel and interaction",
                )

    @property
    def longest_us(self) -> int:
        """The longest of all lookbacks."""
        return max([self.lookback_us, *(window.lookback_us for window in self.windows)])

    @property
    def faceted(self) -> bool:
        """Whether it matters how and through which channel a unit was touched.

        It does where what is credited no longer says it: a model may ask for direct channels.
        """
        renamed = any(step.transform is PathTransform.FREQUENCY for step in self.transforms)
        credits_others = self.credited is not TouchField.CHANNEL
        handled = self.direct.handling is not Direct.KEEP
        return bool(self.windows) or handled or credits_others or renamed
