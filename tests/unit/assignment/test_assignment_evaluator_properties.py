"""What holds for any ruleset: the compiler agrees with an interpreter, and nobody is moved."""

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from touchstone.assignment.v1 import ruleset_pb2
from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.subject import Subject

from tests.unit.assignment import reference, ruling

UNITS = [f"user-{number}" for number in range(2000)]
IDS = ["u1", "u2", "café", "50%", "x" * 200]
HASHES = st.sampled_from([ruling.FLAGD_V2, ruling.FLAGD_V3])


def cuts(most: int) -> st.SearchStrategy[list[int]]:
    """Edges from 0 to 10,000 that cut it into at most `most` parts."""
    inner = st.lists(st.integers(1, 9_999), max_size=most - 1, unique=True)
    return inner.map(lambda edges: [0, *sorted(edges), 10_000])


@st.composite
def rulesets(draw: st.DrawFn) -> ruleset_pb2.Ruleset:
    """Three experiments and a domain in three layers, with some of everything."""
    edges = draw(cuts(6))
    runs = list(pairwise(edges))
    owners = [draw(st.sampled_from(["one", "two", "inner", ""])) for _ in runs]

    def held(owner: str) -> list[ruleset_pb2.Slots]:
        taken = [run for run, key in zip(runs, owners, strict=True) if key == owner]
        return ruling.slots(*taken)

    layers = [
        ruling.layer(hash_version=draw(HASHES)),
        ruling.layer("deep", domain="inner", hash_version=draw(HASHES)),
    ]
    experiments = [
        _experiment(draw, "one", slots=held("one")),
        _experiment(draw, "two", slots=held("two"), needs=["one"]),
        _experiment(draw, "three", layer="deep", needs=["two", "gone"]),
    ]
    holdouts = [
        ruling.holdout("h1", draw(st.integers(0, 3000)), hash_version=draw(HASHES)),
        ruling.holdout("h2", 4000, layers=["deep"]),
    ]
    return ruling.ruleset(
        *experiments,
        layers=layers,
        holdouts=draw(st.lists(st.sampled_from(holdouts), unique_by=lambda h: h.holdout)),
        domains=[ruleset_pb2.DomainRule(domain="inner", layer="checkout", slots=held("inner"))],
    )


def _experiment(draw: st.DrawFn, key: str, needs: Any = (), **changes: Any) -> Any:
    weights = [end - first for first, end in pairwise(draw(cuts(4)))]
    keys = [f"v{number}" for number in range(len(weights))]
    gone = draw(st.sampled_from(["", keys[-1]]))
    rule = ruling.experiment(
        key,
        variants=ruling.variants(*zip(keys, weights, strict=True), dropped=[gone]),
        hash_version=draw(HASHES),
        serving=draw(st.sampled_from([1, 1, 1, 2, 3, 4])),
        **changes,
    )
    if draw(st.booleans()):
        rule.targeting.CopyFrom(ruling.country("DE"))
    if draw(st.integers(0, 3)) == 0:
        rule.switchback.window_s = 60
        rule.switchback.washout_s = draw(st.integers(0, 30))
        rule.switchback.region_attribute = draw(st.sampled_from(["", "region"]))
    for need in needs:
        if draw(st.integers(0, 2)) == 0:
            rule.prerequisites.add(experiment=need, variants=draw(st.sampled_from([[], ["v0"]])))
    for unit_type in ("device", "user"):
        if draw(st.integers(0, 2)) == 0:
            variant = draw(st.sampled_from([*keys, ""]))
            rule.forced.add(unit_type=unit_type, unit_id="u1", variant=variant)
    return rule


SUBJECTS = st.builds(
    reference.Asked,
    ids=st.dictionaries(st.sampled_from(["user", "device"]), st.sampled_from(IDS)),
    attributes=st.fixed_dictionaries(
        {}, optional={"country": st.sampled_from(["DE", "FR"]), "region": st.just("süd")}
    ),
    now_s=st.integers(0, 10_000_000),
)


@settings(max_examples=300, deadline=None)
@given(rules=rulesets(), subjects=st.lists(SUBJECTS, min_size=1, max_size=8))
def test_the_compiler_decides_as_the_order_of_decision_reads(
    rules: ruleset_pb2.Ruleset, subjects: list[reference.Asked]
) -> None:
    evaluator = compile_ruleset(rules, ruling.no_lists)
    for asked in subjects:
        subject = Subject(asked.ids, asked.attributes, float(asked.now_s))
        for key in ("one", "two", "three", "none"):
            found = evaluator.decide(key, subject)
            answer = (found.variant or "", found.reason.value, found.because_of)
            assert answer == reference.decide(rules, key, asked)
            trace = evaluator.explain(key, subject)
            assert trace.decision == found
            assert trace.detail
            assert (trace.split_bucket is None) or (trace.slot is not None)


@settings(max_examples=40, deadline=None)
@given(edges=cuts(6), dropped=st.integers(0, 5))
def test_dropping_a_variant_moves_nobody_else(edges: list[int], dropped: int) -> None:
    weights = [(f"v{number}", b - a) for number, (a, b) in enumerate(pairwise(edges))]
    gone = weights[dropped % len(weights)][0]
    before = ruling.evaluator(ruling.experiment(variants=ruling.variants(*weights)))
    after = ruling.evaluator(ruling.experiment(variants=ruling.variants(*weights, dropped=[gone])))
    for unit in UNITS[:500]:
        subject = Subject({"user": unit})
        had, has = before.decide("button", subject).variant, after.decide("button", subject).variant
        assert has == (None if had == gone else had)


@settings(max_examples=30, deadline=None)
@given(
    edges=cuts(12),
    owners=st.lists(st.sampled_from(["a", "b", "c"]), min_size=12, max_size=12),
    version=HASHES,
)
def test_experiments_of_a_layer_never_share_a_unit(
    edges: list[int], owners: list[str], version: int
) -> None:
    runs: dict[str, list[tuple[int, int]]] = {"a": [], "b": [], "c": []}
    for run, owner in zip(pairwise(edges), owners, strict=False):
        runs[owner].append(run)
    evaluator = ruling.evaluator(
        *(ruling.experiment(key, slots=ruling.slots(*held)) for key, held in runs.items()),
        layers=[ruling.layer(hash_version=version)],
    )
    for unit in UNITS[:300]:
        subject = Subject({"user": unit})
        served = [key for key in runs if evaluator.decide(key, subject).variant is not None]
        assert len(served) == 1


def test_cuts_with_different_salts_are_independent() -> None:
    """Holdout, domain, layers and splits: of each pair, one says nothing about the other."""
    evaluator = ruling.evaluator(
        ruling.experiment("one", slots=ruling.slots((0, 5000))),
        ruling.experiment("two", layer="other", hash_version=ruling.FLAGD_V3),
        layers=[ruling.layer(), ruling.layer("other")],
        holdouts=[ruling.holdout(share=5000, experiments=["none"])],
    )
    units = [Subject({"user": f"unit-{number}"}) for number in range(20_000)]
    first = [evaluator.decide("one", unit).variant for unit in units]
    second = [evaluator.decide("two", unit).variant for unit in units]
    held = [bool(evaluator.held_out(unit)) for unit in units]
    slots = [evaluator.layers["other"].slot(unit.unit("user") or b"") < 5000 for unit in units]
    columns: list[list[Any]] = [first, second, held, slots]
    for index, one in enumerate(columns):
        for other in columns[index + 1 :]:
            assert stats.chi2_contingency(_table(one, other)).pvalue > 1e-4
    # The broken twin: the same salt twice is one cut.
    again = [unit_slot < 5000 for unit_slot in (_slot(evaluator, unit) for unit in units)]
    enrolled = [variant is not None for variant in first]
    assert stats.chi2_contingency(_table(enrolled, again)).pvalue < 1e-100


def _slot(evaluator: Any, unit: Subject) -> int:
    return int(evaluator.layers["checkout"].slot(unit.unit("user")))


def _table(one: list[Any], other: list[Any]) -> list[list[int]]:
    rows, columns = sorted(set(one), key=str), sorted(set(other), key=str)
    counts = {(row, column): 0 for row in rows for column in columns}
    for pair in zip(one, other, strict=True):
        counts[pair] += 1
    return [[counts[row, column] for column in columns] for row in rows]
