"""Links of channels to the experiments that switched them."""

from dataclasses import dataclass

from services.attribution.ports import CreditKey, TouchField
from shared.resource_names import resource_name

COLLECTION = "calibrationLinks"


@dataclass(frozen=True, slots=True)
class SwitchedGroup:
    """The units of one variant of an experiment."""

    experiment_id: str
    variant: str


@dataclass(frozen=True, slots=True)
class CalibrationLink:
    """What an experiment says of a channel.

    `treatment` are the groups that are compared with `control`: one variant of the same experiment,
    or, `by_control_group`, waves of one or several. `treatment_on` says that the channel was on for
    the treatment and off for the control; otherwise it was the other way round.
    """

    project: str
    link_id: str
    channel: str
    metric_id: str
    treatment: tuple[SwitchedGroup, ...]
    control: SwitchedGroup
    treatment_on: bool
    by_control_group: bool = False
    credited: CreditKey = TouchField.CHANNEL

    @property
    def name(self) -> str:
        """The resource name."""
        return link_name(self.project, self.link_id)

    @property
    def shown(self) -> tuple[SwitchedGroup, ...]:
        """The groups that the channel was on for."""
        return self.treatment if self.treatment_on else (self.control,)

    @property
    def held_out(self) -> tuple[SwitchedGroup, ...]:
        """The groups that it was off for."""
        return (self.control,) if self.treatment_on else self.treatment

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiments that it names, in their order, each once."""
        named = [each.experiment_id for each in (self.control, *self.treatment)]
        return tuple(dict.fromkeys(named))


def link_name(project: str, link_id: str) -> str:
    """The resource name of a link."""
    return resource_name(project, COLLECTION, link_id)
