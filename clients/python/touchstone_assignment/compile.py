"""From a ruleset to closures that decide in memory.

The order of decision, in which a later step never overrides an earlier one:

1. another system, or no such experiment  2. kill switch  3. forced variants  4. does it run?
5. an id of its unit type  6. holdouts  7. prerequisites  8. targeting  9. domain
10. layer slot: does the experiment own the unit's slot?  11. switchback: region and washout
12. split: which variant, or a dropped one?

What a step can decide when it is compiled it decides there (a whole layer needs no slot hash), so
that the closure holds only what depends on the subject. Steps 6 to 9 narrow who reaches 10 and
never change the buckets of 10 and 12.

A paused experiment serves no variant to anyone, enrolled or not, and so does a stopped one: the
caller's default is what everybody gets, and units come back to their own variant on resuming.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from touchstone_assignment.audiences import AudienceBook
from touchstone_assignment.compiled import CompiledExperiment, Evaluator
from touchstone_assignment.conditions import IdSet
from touchstone_assignment.experiments import Surroundings, compile_experiment
from touchstone_assignment.holders import holders_of
from touchstone_assignment.holdouts import CompiledHoldout, compile_holdouts
from touchstone_assignment.layers import CompiledLayer, compile_layers
from touchstone_assignment.order import dependency_order
from touchstone_assignment.origin import Origin, origin_of, taken_over
from touchstone_assignment.parameters import forcing_of, sources_of

if TYPE_CHECKING:
    from touchstone.assignment.v1.ruleset_pb2 import ExperimentRule, Ruleset

FORMAT = 1
"""The newest format of a ruleset that is understood."""


def compile_ruleset(
    ruleset: "Ruleset", id_sets: Callable[[str], IdSet], previous: Evaluator | None = None
) -> Evaluator:
    """Compile every rule, taking over from `previous` what has not changed.

    `id_sets` gives the content of an id list by its digest. ValueError for a ruleset of a newer
    format, and, naming the rule, for one that cannot decide.
    """
    if ruleset.format > FORMAT:
        raise ValueError(
            f"the ruleset is of format {ruleset.format}; understood are those up to {FORMAT}: "
            "update touchstone_assignment"
        )
    known = previous if previous and previous.project == ruleset.project else None
    layers = compile_layers(ruleset.layers, ruleset.domains, known.layers if known else {})
    holdouts = compile_holdouts(ruleset.holdouts, known.holdouts if known else {})
    audiences = AudienceBook(ruleset.audiences, id_sets)
    sources = sources_of(ruleset.layers)
    parts = Parts(ruleset.project, layers, holdouts, audiences)
    return Evaluator(
        project=ruleset.project,
        config_version=ruleset.config_version,
        experiments=_experiments(ruleset.experiments, parts, known.experiments if known else {}),
        layers=layers,
        holdouts=holdouts,
        audiences=audiences,
        holders=holders_of(ruleset.experiments, ruleset.domains),
        parameter_rules=sources,
        forcing=forcing_of(sources, ruleset.experiments),
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """What the experiments of one ruleset are compiled with."""

    project: str
    layers: Mapping[str, CompiledLayer]
    holdouts: Mapping[str, CompiledHoldout]
    audiences: AudienceBook


def _experiments(
    rules: Iterable["ExperimentRule"], parts: Parts, known: Mapping[str, CompiledExperiment]
) -> dict[str, CompiledExperiment]:
    by_id = {rule.experiment: rule for rule in rules}
    needs = {
        key: [needed.experiment for needed in rule.prerequisites] for key, rule in by_id.items()
    }
    compiled: dict[str, CompiledExperiment] = {}
    for key in dependency_order("experiments", by_id, needs.__getitem__):
        rule = by_id[key]
        around = Surroundings(
            project=parts.project,
            layer=parts.layers.get(rule.layer),
            holdouts=[holdout for holdout in parts.holdouts.values() if holdout.covers(rule)],
            prerequisites=[compiled.get(needed) for needed in needs[key]],
            predicate=parts.audiences.predicate,
        )
        origin = _origin(rule, around, parts.audiences)
        compiled[key] = taken_over(known, key, origin) or compile_experiment(rule, around, origin)
    return {key: compiled[key] for key in by_id}


def _origin(rule: "ExperimentRule", around: Surroundings, audiences: AudienceBook) -> Origin:
    origin = origin_of([rule], [around.layer, *around.holdouts, *around.prerequisites])
    if not rule.HasField("targeting"):
        return origin
    return Origin(origin.rules + audiences.written(rule.targeting), origin.parts)
