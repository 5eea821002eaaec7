"""Data-driven models over events that were logged, against computations that share nothing with the
service: chains solved again without their states, Shapley values by all orders, regressions by
statsmodels, fits recomputed from who was held out.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from itertools import combinations

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from scipy import optimize, stats
from touchstone.attribution.v1 import (
    attribution_pb2,
    attribution_service_pb2_grpc,
    held_out_pb2,
    uncertainty_pb2,
)
from touchstone.attribution.v1 import attribution_service_pb2 as pb
from touchstone.attribution.v1 import path_service_pb2 as path_pb
from touchstone.attribution.v1 import path_service_pb2_grpc as path_grpc
from touchstone.attribution.v1 import report_service_pb2 as report_pb
from touchstone.attribution.v1 import report_service_pb2_grpc as report_grpc
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2

from tests.e2e import model_oracles as oracle
from tests.e2e.model_oracles import CHANNELS, Channels, Floats, Journey
from tests.e2e.suite import Suite
from tests.e2e.test_loop import PROJECT, log

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
LOOKBACK_DAYS = 5
DEFINITION = attribution_pb2.JourneyDefinition(
    event_name="order", unit_type="shopper", lookback=Duration(seconds=LOOKBACK_DAYS * 86_400)
)
PART, SEED = 0.3, 11
HELD_OUT = held_out_pb2.HeldOut(part=PART, seed=SEED)
ONE_FIT = attribution_pb2.BaggedLogistic(row_part=1, column_part=1, rounds=1, ridge=1e-9)
"""A bag of one regression of everything, and next to no ridge: what statsmodels fits too."""


def shapley(game: attribution_pb2.ShapleyGame.ValueType, **fields: object) -> attribution_pb2.Model:
    return attribution_pb2.Model(shapley=attribution_pb2.Shapley(game=game, **fields))  # type: ignore[arg-type]


def markov(order: int = 1, *, converting_alone: bool = False) -> attribution_pb2.Model:
    return attribution_pb2.Model(
        markov=attribution_pb2.Markov(order=order, ignore_non_converting=converting_alone)
    )


MODELS = {
    "linear": attribution_pb2.Model(linear=attribution_pb2.Linear()),
    "simplified": shapley(attribution_pb2.SHAPLEY_GAME_SIMPLIFIED),
    "exact_set": shapley(attribution_pb2.SHAPLEY_GAME_EXACT_SET_RATE),
    "subset": shapley(attribution_pb2.SHAPLEY_GAME_SUBSET_RATE),
    "ordered": shapley(attribution_pb2.SHAPLEY_GAME_ORDERED, positions=3),
    "learned": shapley(attribution_pb2.SHAPLEY_GAME_LEARNED, learner=ONE_FIT),
    "probabilistic": attribution_pb2.Model(probabilistic=attribution_pb2.Probabilistic()),
    "logistic": attribution_pb2.Model(bagged_logistic=ONE_FIT),
    "fractribution": attribution_pb2.Model(fractribution=attribution_pb2.Fractribution()),
    "hazard": attribution_pb2.Model(additive_hazard=attribution_pb2.AdditiveHazard()),
    "markov_1": markov(1),
    "markov_2": markov(2),
    "markov_3": markov(3),
}


def begun(journey: Journey, number: int) -> dt.datetime:
    """When a unit's journey of this number begins: days after the end of the one before."""
    unit = int(journey.unit.rsplit("-", 1)[1])
    return START + dt.timedelta(days=12 * number, hours=unit % 24, minutes=unit % 60)


def touch_times(journey: Journey, number: int) -> list[dt.datetime]:
    hours = np.concatenate([[0], np.cumsum(journey.gaps_h, dtype=np.int64)]).tolist()
    return [begun(journey, number) + dt.timedelta(hours=hour) for hour in hours]


def numbered(journeys: list[Journey]) -> Iterator[tuple[Journey, int]]:
    """Each journey with how many the unit had before."""
    before: Counter[str] = Counter()
    for journey in journeys:
        yield journey, before[journey.unit]
        before[journey.unit] += 1


def events_of(journeys: list[Journey]) -> Iterator[event_pb2.Event]:
    for journey, number in numbered(journeys):
        times = touch_times(journey, number)
        bought = [] if journey.value is None else [times[-1] + dt.timedelta(hours=1)]
        for place, time in enumerate([*times, *bought]):
            stamp = Timestamp()
            stamp.FromDatetime(time)
            event = event_pb2.Event(
                event_id=f"{journey.unit}-{number}-{place}",
                event_time=stamp,
                unit=unit_pb2.UnitId(type="shopper", id=journey.unit),
            )
            if place < len(times):
                event.touchpoint.channel = journey.path[place]
            else:
                event.conversion.event_name = "order"
                event.conversion.value = journey.value or 0.0
            yield event


@pytest.fixture(scope="module")
def suite(module_suite: Suite) -> Suite:
    """Of its own: what is counted here is all that there is."""
    return module_suite


@pytest.fixture(scope="module")
def journeys() -> list[Journey]:
    return oracle.drawn_journeys(900, seed=20260301)


@pytest.fixture(scope="module")
def token(suite: Suite, journeys: list[Journey]) -> str:
    return log(suite, list(events_of(journeys)))


def attributed(
    suite: Suite, token: str, models: list[attribution_pb2.Model], **fields: object
) -> pb.GetAttributionResponse:
    stub = attribution_service_pb2_grpc.AttributionServiceStub(suite.channel("attribution"))
    request = pb.GetAttributionRequest(
        journeys=DEFINITION,
        models=models,
        consistency_token=token,
        **fields,  # type: ignore[arg-type]
    )
    return stub.GetAttribution(request, metadata=suite.metadata)


@pytest.fixture(scope="module")
def answer(suite: Suite, token: str) -> pb.GetAttributionResponse:
    return attributed(suite, token, [*MODELS.values()], held_out=HELD_OUT)


Credits = Mapping[str, attribution_pb2.ChannelCredit]


def credits_of(answer: pb.GetAttributionResponse, name: str, order: int = 0) -> Credits:
    (result,) = (
        result
        for result in answer.results
        if result.model_name == name and order in (0, result.model.markov.order)
    )
    return {channel.channel: channel for channel in result.channels}


def conversions(credits_: Credits) -> dict[str, float]:
    return {channel: credit.conversions for channel, credit in credits_.items()}


def values(credits_: Credits) -> dict[str, float]:
    return {channel: credit.value for channel, credit in credits_.items()}


def close(figures: Mapping[str, float], rel: float = 1e-9) -> object:
    return pytest.approx(dict(figures), rel=rel, abs=1e-9)


def totals(journeys: list[Journey]) -> tuple[int, float]:
    return sum(j.bought for j in journeys), sum(j.value or 0.0 for j in journeys)


def test_the_journeys_are_those_that_were_drawn(
    answer: pb.GetAttributionResponse, journeys: list[Journey]
) -> None:
    bought, value = totals(journeys)
    assert answer.summary.journeys == len(journeys)
    assert answer.summary.converting_journeys == bought > 300
    assert answer.summary.value == pytest.approx(value)
    assert answer.summary.units == 900


@pytest.mark.parametrize("order", [1, 2, 3])
def test_markov_effects_are_those_of_the_chain_without_the_states(
    answer: pb.GetAttributionResponse, journeys: list[Journey], order: int
) -> None:
    effects = oracle.removal_effects(journeys, order)
    on_count = {channel: effect for channel, (effect, _) in effects.items()}
    on_value = {channel: effect for channel, (_, effect) in effects.items()}
    bought, value = totals(journeys)
    share = credits_of(answer, "markov_removal_share", order)
    credited = credits_of(answer, "markov_path_credit", order)

    assert {c: credit.removal_effect for c, credit in share.items()} == close(on_count)
    assert conversions(share) == close(oracle.divided(on_count, bought))
    assert values(share) == close(oracle.divided(on_value, value))
    assert conversions(credited) == close(oracle.path_credit(journeys, on_count))
    # Two questions, two answers.
    assert conversions(share) != close(conversions(credited), rel=1e-3)


@pytest.mark.parametrize("order", [1, 2])
def test_chains_of_conversions_alone(
    suite: Suite, token: str, journeys: list[Journey], order: int
) -> None:
    found = attributed(suite, token, [markov(order, converting_alone=True)])
    own = [journey for journey in journeys if journey.bought]
    effects = oracle.removal_effects(own, order)

    share = credits_of(found, "markov_removal_share")
    expected = {channel: effect for channel, (effect, _) in effects.items()}
    assert {c: credit.removal_effect for c, credit in share.items()} == close(expected)


SEQUENCES = [
    ("email", "search"),
    ("search",),
    ("display", "display"),
    ("social", "email", "search"),
    ("search", "email", "search", "display"),
]


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("sequence", SEQUENCES, ids=">".join)
def test_sequences_are_those_of_a_chain_that_remembers(
    suite: Suite, token: str, journeys: list[Journey], sequence: tuple[str, ...], order: int
) -> None:
    stub = path_grpc.PathServiceStub(suite.channel("attribution"))
    request = path_pb.GetSequenceEffectRequest(
        question=path_pb.PathQuestion(journeys=DEFINITION, consistency_token=token, min_units=1),
        sequence=sequence,
        order=order,
    )
    if order == 1 and sequence == ("display", "display"):
        # A chain of order 1 sees touches of one channel in a row as one.
        with pytest.raises(Exception, match="at most 1"):
            stub.GetSequenceEffect(request, metadata=suite.metadata)
        return
    found = stub.GetSequenceEffect(request, metadata=suite.metadata)

    expected = oracle.sequence_effect(journeys, sequence, order)
    assert found.removal_effect == pytest.approx(expected, rel=1e-8, abs=1e-10)
    if len(sequence) <= order:
        # The same by taking out every state that holds it.
        steps = oracle.steps_of(journeys, order)
        left = oracle.solved(steps, lambda state: oracle.holds(tuple(state), sequence))  # type: ignore[arg-type]
        assert found.removal_effect == pytest.approx(1 - left / oracle.solved(steps), rel=1e-8)


def test_games_are_the_mean_over_all_orders(
    answer: pb.GetAttributionResponse, journeys: list[Journey]
) -> None:
    bought, _ = totals(journeys)
    expected = oracle.simplified(journeys)
    assert conversions(credits_of(answer, "shapley_simplified")) == close(expected)
    for name, rate in (
        ("shapley_exact_set_rate", oracle.exact_set_rate(journeys)),
        ("shapley_subset_rate", oracle.subset_rate(journeys)),
    ):
        said = credits_of(answer, name)
        by_count, by_value = oracle.by_rate(journeys, rate)
        assert conversions(said) == close(by_count)
        assert values(said) == close(by_value)
        assert sum(by_count.values()) == pytest.approx(bought)


def test_the_ordered_game_tells_the_simplified_one_by_place(
    answer: pb.GetAttributionResponse, journeys: list[Journey]
) -> None:
    expected = oracle.ordered(journeys, 3)
    for channel, credit in credits_of(answer, "shapley_ordered").items():
        told = [place.conversions for place in credit.positions]
        assert told == pytest.approx(expected[channel])
        assert sum(told) == pytest.approx(credit.conversions)
    assert conversions(credits_of(answer, "shapley_ordered")) == close(oracle.simplified(journeys))


def test_the_learned_game_is_that_of_the_regression(
    answer: pb.GetAttributionResponse, journeys: list[Journey]
) -> None:
    intercept, coefficients = oracle.logistic(oracle.counts_of_sets(journeys), CHANNELS)

    def chance(held: Channels) -> float:
        return oracle.predicted(intercept, coefficients, held)

    game = oracle.shapley(CHANNELS, chance)
    assert sum(game.values()) == pytest.approx(chance(frozenset(CHANNELS)) - chance(frozenset()))
    said = conversions(credits_of(answer, "shapley_learned"))
    assert said == close(oracle.divided(game, totals(journeys)[0]), rel=1e-6)


def test_shao_and_li_by_their_equations(
    answer: pb.GetAttributionResponse, journeys: list[Journey]
) -> None:
    by_count, by_value = oracle.shao_li(journeys)
    bought, value = totals(journeys)
    said = credits_of(answer, "probabilistic")

    assert conversions(said) == close({c: part * bought for c, part in by_count.items()})
    assert values(said) == close({c: part * value for c, part in by_value.items()})


def test_the_regression_is_that_of_statsmodels(
    answer: pb.GetAttributionResponse, journeys: list[Journey]
) -> None:
    _, coefficients = oracle.logistic(oracle.counts_of_sets(journeys), CHANNELS)

    said = conversions(credits_of(answer, "bagged_logistic"))
    assert said == close(oracle.by_power(journeys, coefficients), rel=1e-5)


def test_bags_agree_with_other_bags(suite: Suite, token: str, journeys: list[Journey]) -> None:
    """Other halves of journeys and of channels are drawn here, as many of each."""
    draw = np.random.default_rng(7)
    sums, taken = dict.fromkeys(CHANNELS, 0.0), dict.fromkeys(CHANNELS, 0)
    for _ in range(300):
        half = [journey for journey in journeys if draw.random() < 0.5]
        chosen = sorted(draw.choice(CHANNELS, 3, replace=False).tolist())
        kept = [Journey(j.unit, tuple(c for c in j.path if c in chosen), (), j.value) for j in half]
        _, found = oracle.logistic(oracle.counts_of_sets(kept), chosen)
        for channel in chosen:
            sums[channel] += found[channel]
            taken[channel] += 1
    coefficients = {channel: sums[channel] / taken[channel] for channel in CHANNELS}
    bag = attribution_pb2.BaggedLogistic(column_part=0.6, rounds=300)
    answer = attributed(suite, token, [attribution_pb2.Model(bagged_logistic=bag)])

    said = conversions(credits_of(answer, "bagged_logistic"))
    expected = oracle.by_power(journeys, coefficients)
    apart = sum(abs(said[channel] - expected[channel]) for channel in CHANNELS) / 2
    assert apart < 0.02 * sum(expected.values())


def test_fractribution_by_its_definition(
    answer: pb.GetAttributionResponse, journeys: list[Journey]
) -> None:
    said = conversions(credits_of(answer, "fractribution"))
    assert said == close(oracle.fractribution(journeys))


def test_the_hazard_is_the_most_likely_one(
    answer: pb.GetAttributionResponse, journeys: list[Journey]
) -> None:
    """Its likelihood is written down once more, and climbed by a general method."""
    ends = [
        touch_times(j, n)[-1] + dt.timedelta(hours=1) for j, n in numbered(journeys) if j.bought
    ]
    newest = max([*ends, *(touch_times(j, n)[-1] for j, n in numbered(journeys))])
    codes, ages, owner, sold = [], [], [], []
    for row, (journey, number) in enumerate(numbered(journeys)):
        times = touch_times(journey, number)
        end = times[-1] + dt.timedelta(hours=1) if journey.bought else newest
        codes += [CHANNELS.index(channel) for channel in journey.path]
        ages += [(end - time) / dt.timedelta(days=1) for time in times]
        owner += [row] * len(times)
        sold += [journey.bought] * len(times)
    code, age, row_of, own = map(np.array, (codes, ages, owner, sold))
    bought = np.array([journey.bought for journey in journeys])

    def hazards(log_parameters: Floats) -> tuple[Floats, Floats]:
        beta, omega = np.exp(log_parameters).reshape(2, -1)
        each = beta[code] * omega[code] * np.exp(-omega[code] * age)
        return each, np.bincount(row_of, weights=each).astype(np.float64)

    def loss(log_parameters: Floats) -> float:
        beta, omega = np.exp(log_parameters).reshape(2, -1)
        spent = beta[code] @ (1 - np.exp(-omega[code] * age))
        return float(spent - np.log(hazards(log_parameters)[1][bought]).sum())

    begin = np.log(np.repeat([0.1, 1.0], len(CHANNELS)))
    best = optimize.minimize(loss, begin, method="L-BFGS-B", options={"maxiter": 2_000})
    each, together = hazards(best.x)
    parts = np.where(own, each / together[row_of], 0.0)
    expected = np.bincount(code, weights=parts)

    said = conversions(credits_of(answer, "additive_hazard"))
    assert [said[channel] for channel in CHANNELS] == pytest.approx(expected, rel=0.02)


# Fits on journeys that were held out.


def split(journeys: list[Journey]) -> tuple[list[Journey], list[Journey]]:
    apart = [oracle.is_held_out(journey.unit, PART, SEED) for journey in journeys]
    pairs = [*zip(journeys, apart, strict=True)]
    return [j for j, held in pairs if not held], [j for j, held in pairs if held]


def predictor(name: str, training: list[Journey]) -> Callable[[Journey], float]:
    """The chance of a journey by each model, as the reference says what they predict."""
    overall = sum(j.bought for j in training) / len(training)
    if name == "probabilistic":
        return oracle.shao_li_chance(training)
    if name in ("bagged_logistic", "shapley_learned"):
        fit = oracle.logistic(oracle.counts_of_sets(training), CHANNELS)
        return lambda journey: oracle.predicted(*fit, journey.channels)
    if name == "shapley_subset_rate":
        rate, sets = oracle.subset_rate(training), oracle.counts_of_sets(training)
        return lambda journey: (
            rate(journey.channels) if any(s <= journey.channels for s in sets) else overall
        )

    def key(journey: Journey) -> Hashable:
        if name == "shapley_exact_set_rate":
            return journey.channels
        if name == "fractribution":
            return journey.path
        return oracle.states_of(journey.path, int(name.removeprefix("markov_")))[-1]

    rates = oracle.rates_by(training, key)
    return lambda journey: rates.get(key(journey), overall)


JUDGED = (
    *("markov_1", "markov_2", "markov_3", "probabilistic", "bagged_logistic", "shapley_learned"),
    *("shapley_exact_set_rate", "shapley_subset_rate", "fractribution"),
)


@pytest.mark.parametrize("name", JUDGED)
def test_fits_are_those_of_the_journeys_held_out(
    answer: pb.GetAttributionResponse, journeys: list[Journey], name: str
) -> None:
    training, held_out = split(journeys)
    (fit,) = (fit for fit in answer.fits if fit.model_name == name)
    chance = predictor(name, training)
    chances = np.array([chance(journey) for journey in held_out])
    converted = np.array([journey.bought for journey in held_out])
    rate = converted.mean()

    assert (fit.journeys, fit.conversions) == (len(held_out), converted.sum())
    assert 0.2 < len(held_out) / len(journeys) < 0.4
    assert fit.auc == pytest.approx(oracle.area(chances, converted), abs=1e-9)
    assert fit.log_loss == pytest.approx(oracle.log_loss(chances, converted), rel=1e-6)
    assert fit.base_log_loss == pytest.approx(stats.bernoulli(rate).entropy())
    impossible = (chances == converted * 0) & converted | (chances == 1) & ~converted
    assert fit.certain == impossible.sum()
    slope, intercept = oracle.recalibrated(chances, converted)
    assert fit.calibration_slope == pytest.approx(slope, rel=1e-4)
    assert fit.calibration_intercept == pytest.approx(intercept, rel=1e-4, abs=1e-4)
    # The bins hold every journey once, and the error is the distance in them.
    assert sum(row.journeys for row in fit.bins) == len(held_out)
    assert sum(row.journeys * row.observed for row in fit.bins) == pytest.approx(converted.sum())
    assert sum(row.journeys * row.predicted for row in fit.bins) == pytest.approx(chances.sum())
    apart = sum(row.journeys * abs(row.predicted - row.observed) for row in fit.bins)
    assert fit.calibration_error == pytest.approx(apart / len(held_out))


def test_rules_and_games_of_counts_say_why_they_predict_nothing(
    answer: pb.GetAttributionResponse,
) -> None:
    why = {fit.model_name: fit.why_none for fit in answer.fits if fit.why_none}
    assert why.keys() == {"linear", "shapley_simplified", "shapley_ordered"}


def test_the_planted_order_is_found_by_the_figures_of_each_order(
    suite: Suite, token: str, journeys: list[Journey]
) -> None:
    automatic = attribution_pb2.Model(
        markov=attribution_pb2.Markov(automatic_order=True, highest_order=4)
    )
    found = attributed(suite, token, [automatic], held_out=HELD_OUT)
    result = found.results[0]
    training, held_out = split(journeys)
    converted = np.array([journey.bought for journey in held_out])
    lower = {id(j): sum(t.bought for t in training) / len(training) for j in held_out}

    assert (result.model.markov.order, result.order_selection.chosen) == (2, 2)
    for fit, order in zip(result.order_selection.orders, range(1, 5), strict=True):
        seen: Counter[Hashable] = Counter()
        sold: Counter[Hashable] = Counter()
        for journey in training:
            last = oracle.states_of(journey.path, order)[-1]
            seen[last] += 1
            sold[last] += journey.bought
        last_of = {id(j): oracle.states_of(j.path, order)[-1] for j in held_out}
        # One journey more, which converted as those of the next lower order did.
        lower = {key: (sold[s] + lower[key]) / (seen[s] + 1) for key, s in last_of.items()}
        chances = np.array([lower[id(journey)] for journey in held_out])
        states = {s for j in training for s in oracle.states_of(j.path, order)}
        count = len(held_out)
        auc = oracle.area(chances, converted)
        assert (fit.order, fit.states) == (order, len(states))
        assert fit.unseen == sum(not seen[state] for state in last_of.values())
        assert fit.auc == pytest.approx(auc, abs=1e-9)
        assert fit.log_loss == pytest.approx(oracle.log_loss(chances, converted), rel=1e-9)
        penalised = 1 - (1 - auc) * (count - 1) / (count - len(states) - 1)
        assert fit.penalised_auc == pytest.approx(penalised, abs=1e-9)
    best = max(result.order_selection.orders, key=lambda fit: fit.penalised_auc)
    assert best.order == 2


# Uncertainty.


def test_intervals_of_sums_are_those_of_units_drawn_again(
    suite: Suite, token: str, journeys: list[Journey]
) -> None:
    """The standard error of a sum over units by Poisson weights is the root of their squares."""
    models = [MODELS["linear"], MODELS["simplified"]]
    bootstrap = uncertainty_pb2.Bootstrap(replicates=2_000, seed=5)
    found = attributed(suite, token, models, bootstrap=bootstrap)
    for name, credit in (
        ("linear", lambda j, c: j.path.count(c) / len(j.path)),
        ("shapley_simplified", lambda j, c: (c in j.channels) / len(j.channels)),
    ):
        for channel, said in credits_of(found, name).items():
            own: dict[str, float] = {}
            for journey in (j for j in journeys if j.bought):
                own[journey.unit] = own.get(journey.unit, 0.0) + credit(journey, channel)
            std_err = math.sqrt(sum(part**2 for part in own.values()))
            # 2,000 replicates know a standard error to 1.6%, and an end to about 5% of it.
            assert said.intervals.conversions_std_err == pytest.approx(std_err, rel=0.08)
            span = said.intervals.conversions
            assert span.low == pytest.approx(said.conversions - 1.96 * std_err, abs=std_err / 4)
            assert span.high == pytest.approx(said.conversions + 1.96 * std_err, abs=std_err / 4)


def test_intervals_of_a_chain_are_those_of_units_drawn_again(
    suite: Suite, token: str, journeys: list[Journey]
) -> None:
    bootstrap = uncertainty_pb2.Bootstrap(replicates=2_000, seed=5)
    found = attributed(suite, token, [markov(1)], bootstrap=bootstrap)
    said = credits_of(found, "markov_removal_share")
    names = [oracle.START, *CHANNELS, oracle.CONVERSION, oracle.NULL]
    units = sorted({journey.unit for journey in journeys})
    steps = np.zeros((len(units), len(names), len(names)))
    for journey in journeys:
        of_unit = steps[units.index(journey.unit)]
        for here, row in oracle.steps_of([journey], 1).items():
            for there, times in row.items():
                one, other = (s[0] if isinstance(s, tuple) else s for s in (here, there))
                of_unit[names.index(str(one)), names.index(str(other))] += times

    def shares(counts: Floats) -> Floats:
        inner = len(CHANNELS) + 1
        rates = counts[:inner] / counts[:inner].sum(axis=1, keepdims=True)
        visits = np.linalg.inv(np.eye(inner) - rates[:, :inner])
        ends = visits @ rates[:, inner]
        effects = np.array([visits[0, c] * ends[c] / visits[c, c] for c in range(1, inner)])
        whole: Floats = effects / effects.sum() * counts[:, inner].sum()
        return whole

    assert shares(steps.sum(axis=0)) == pytest.approx([said[c].conversions for c in CHANNELS])
    draw = np.random.default_rng(3)
    drawn = np.array(
        [shares(np.tensordot(draw.poisson(1.0, len(units)), steps, 1)) for _ in range(2_000)]
    )
    for channel, own in zip(CHANNELS, drawn.T, strict=True):
        spans = said[channel].intervals
        std_err = own.std(ddof=1)
        assert spans.conversions_std_err == pytest.approx(std_err, rel=0.1)
        low, high = np.quantile(own, [0.025, 0.975])
        assert spans.conversions.low == pytest.approx(low, abs=std_err / 3)
        assert spans.conversions.high == pytest.approx(high, abs=std_err / 3)


# Side by side.


def test_the_divergence_of_every_pair_is_recomputed(
    suite: Suite, answer: pb.GetAttributionResponse
) -> None:
    stub = report_grpc.ReportServiceStub(suite.channel("attribution"))
    operation = stub.RunAttribution(
        report_pb.RunAttributionRequest(
            parent=PROJECT,
            report_id="compared",
            journeys=DEFINITION,
            models=[*MODELS.values()],
            as_of=answer.provenance.watermark,
            min_units=1,
        ),
        metadata=suite.metadata,
    ).operation
    suite.run("operations", "wait", operation.name)
    name = f"{PROJECT}/attributionReports/compared"
    report = stub.GetReport(report_pb.GetReportRequest(name=name), metadata=suite.metadata).report
    compared = stub.CompareModels(
        report_pb.CompareModelsRequest(name=name), metadata=suite.metadata
    )
    shares = [
        np.array([channel.conversions for channel in result.channels]) for result in report.results
    ]
    shares = [each / each.sum() for each in shares]
    expected = [*combinations(range(len(shares)), 2)]

    assert [(pair.left_index, pair.right_index) for pair in compared.pairs] == expected
    assert len(expected) > 80
    for pair in compared.pairs:
        left, right = shares[pair.left_index], shares[pair.right_index]
        assert pair.left == report.results[pair.left_index].model_name
        assert pair.total_variation == pytest.approx(np.abs(left - right).sum() / 2, abs=1e-12)
        rank = stats.spearmanr(left, right).statistic
        assert pair.rank_correlation == pytest.approx(rank)
        apart = sorted(zip(np.abs(left - right).tolist(), CHANNELS, strict=True), reverse=True)
        assert [row.channel for row in pair.channels] == [c for far, c in apart[:3] if far > 0]
        for row in pair.channels:
            at = CHANNELS.index(row.channel)
            assert (row.left, row.right) == pytest.approx((left[at], right[at]))


# Paths without events.


def test_sampled_values_are_within_their_error(suite: Suite) -> None:
    draw = np.random.default_rng(14)
    names = [f"channel-{number:02}" for number in range(14)]
    power = draw.normal(0.2, 0.8, len(names))
    rows, sets = [], {}
    sizes = draw.integers(1, 5, 150).tolist()
    chosen = [tuple(sorted(draw.choice(14, size, replace=False).tolist())) for size in sizes]
    for held in dict.fromkeys(chosen):
        seen = int(draw.integers(40, 90))
        sold = int(draw.binomial(seen, 1 / (1 + math.exp(2 - power[list(held)].sum()))))
        path = [names[code] for code in held]
        rows.append(pb.PathCounts(path=">".join(path), conversions=sold, nulls=seen - sold))
        sets[frozenset(path)] = (seen, sold, 0.0)
    learned = attribution_pb2.Shapley(
        game=attribution_pb2.SHAPLEY_GAME_LEARNED, learner=ONE_FIT, pairs=2_000, seed=1
    )
    stub = attribution_service_pb2_grpc.AttributionServiceStub(suite.channel("attribution"))
    reply = stub.EvaluatePaths(
        pb.EvaluatePathsRequest(paths=rows, models=[attribution_pb2.Model(shapley=learned)]),
        metadata=suite.metadata,
    )
    intercept, coefficients = oracle.logistic(sets, names)
    bits = (np.arange(1 << 14)[:, None] >> np.arange(14)) & 1
    worth = 1 / (1 + np.exp(-intercept - bits @ np.array([coefficients[c] for c in names])))
    exact = oracle.shapley_of_sets(14, worth)
    exact *= sum(sold for _, sold, _ in sets.values()) / exact.sum()

    (result,) = reply.results
    said = {channel.channel: channel for channel in result.channels}
    scores = []
    for channel, value in zip(names, exact.tolist(), strict=True):
        error = said[channel].sampling_std_err
        assert 0 < error < 0.02 * abs(exact).sum()
        scores.append((said[channel].conversions - value) / error)
    # As standard normal figures are, though they sum to 0.
    assert max(map(abs, scores)) < 4
    assert 0.4 < math.sqrt(sum(score**2 for score in scores) / len(scores)) < 1.8
