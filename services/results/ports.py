"""What results need from the outside."""

from typing import Protocol

from services.results.domain.observation import ExperimentPlan, Observation, Question


class ExperimentSource(Protocol):
    """Where the plans of experiments come from."""

    def experiment(self, project: str, experiment_id: str) -> ExperimentPlan:
        """The plan as it is now, read with the rights of the current caller.

        NOT_FOUND when the project has no such experiment or the caller may not see it;
        UNAVAILABLE when the source does not answer.
        """
        ...


class MomentsSource(Protocol):
    """Where the sums over units come from."""

    def observe(self, question: Question) -> Observation:
        """Sums over the units of each arm, from one cut of the event log.

        A unit belongs to the arm of its exposures of the experiment, counted by its id of the
        experiment's unit type; seen in several arms, it belongs to none. Its events count from
        its first exposure on. A unit without events counts as zero. The same cut gives the same
        answer to the last bit, in whatever order the events arrived. UNAVAILABLE when the data
        does not get as fresh as asked in time.
        """
        ...
