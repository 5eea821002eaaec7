"""Scenes between messages and the domain."""

from collections.abc import Iterator

from touchstone.attribution.v1 import scenario_service_pb2 as pb

from services.attribution.application.scenario_measurements import (
    AskedComparison,
    MeasuredInput,
    Measurements,
)
from services.attribution.domain.lift import Estimate
from services.attribution.domain.scenario import (
    Input,
    Product,
    ProductValue,
    Scenario,
    ScenarioValue,
    Source,
)
from services.attribution.domain.scenario_checks import (
    Agreement,
    Check,
    Quantity,
    Stated,
    beside_measured,
)
from services.attribution.wire.calibration_results import encode_range
from services.attribution.wire.calibration_tests import encode_lift_provenance
from services.attribution.wire.money import encode_estimate, encode_figure
from shared.errors import invalid
from shared.resource_names import require_id

_QUANTITIES = {
    pb.SCENARIO_QUANTITY_USERS: Quantity.USERS,
    pb.SCENARIO_QUANTITY_VALUE_PER_USER: Quantity.VALUE_PER_USER,
    pb.SCENARIO_QUANTITY_TOTAL: Quantity.TOTAL,
    pb.SCENARIO_QUANTITY_DIRECT_AND_TOTAL: Quantity.DIRECT_AND_TOTAL,
    pb.SCENARIO_QUANTITY_UPLIFT: Quantity.UPLIFT,
    pb.SCENARIO_QUANTITY_DIRECT_PAYBACK_YEARS: Quantity.DIRECT_PAYBACK_YEARS,
    pb.SCENARIO_QUANTITY_PAYBACK_YEARS: Quantity.PAYBACK_YEARS,
    pb.SCENARIO_QUANTITY_CONTRACT_RETURN: Quantity.CONTRACT_RETURN,
}
_ENCODED = {quantity: number for number, quantity in _QUANTITIES.items()} | {
    Quantity.INPUT: pb.SCENARIO_QUANTITY_INPUT
}
_AGREEMENTS = {
    Agreement.EXACT: pb.AGREEMENT_EXACT,
    Agreement.ROUNDED: pb.AGREEMENT_ROUNDED,
    Agreement.COARSELY_ROUNDED: pb.AGREEMENT_COARSELY_ROUNDED,
    Agreement.TRUNCATED: pb.AGREEMENT_TRUNCATED,
    Agreement.INCONSISTENT: pb.AGREEMENT_INCONSISTENT,
    Agreement.WITHIN_INTERVAL: pb.AGREEMENT_WITHIN_INTERVAL,
    Agreement.NOT_DERIVED: pb.AGREEMENT_NOT_DERIVED,
}


def decode_measured(request: pb.ValueScenarioRequest, project: str) -> list[MeasuredInput]:
    """The inputs that experiments measure; NOT_FOUND for those of other projects."""
    return [
        MeasuredInput(product.product, name, _asked(value.comparison, project))
        for product in request.products
        for name, value in _inputs_of(product)
        if value.HasField("comparison")
    ]


def decode_scenario(
    request: pb.ValueScenarioRequest, measured: Measurements
) -> tuple[Scenario, tuple[Stated, ...]]:
    """The scene and what is printed of it; INVALID_ARGUMENT where its parts contradict."""
    scenario = Scenario(
        products=tuple(_product(product, measured) for product in request.products),
        investment=request.investment if request.HasField("investment") else None,
        contract_years=request.contract_years if request.HasField("contract_years") else None,
        direct_income=request.direct_income if request.HasField("direct_income") else None,
    )
    stated = (
        Stated(_QUANTITIES[each.quantity], each.value, each.decimals, each.unit or 1.0)
        for each in request.stated
    )
    return scenario, tuple(stated)


def checks_of(request: pb.ValueScenarioRequest, measured: Measurements) -> tuple[Check, ...]:
    """What is given of measured inputs, beside what was measured."""
    return tuple(
        beside_measured(product.product, name, value.value, found.difference, found.interval)
        for product in request.products
        for name, value in _inputs_of(product)
        if (found := measured.get((product.product, name))) and value.HasField("value")
    )


def encode_measurements(
    request: pb.ValueScenarioRequest, measured: Measurements
) -> Iterator[pb.ScenarioMeasurement]:
    """What was read, in the order of the request."""
    for product in request.products:
        for name, value in _inputs_of(product):
            found = measured.get((product.product, name))
            if found is None:
                continue
            difference = encode_range(found.difference.value, *found.interval)
            difference.value.std_err = found.difference.std_err
            comparison = pb.MeasuredComparison()
            comparison.CopyFrom(value.comparison)
            comparison.as_of = found.provenance.watermark
            yield pb.ScenarioMeasurement(
                product=product.product,
                input=name,
                comparison=comparison,
                difference=difference,
                units=found.units,
                control_units=found.control_units,
                provenance=encode_lift_provenance(found.provenance),
                untrusted=found.alert,
            )


def encode_scenario(found: ScenarioValue) -> pb.ValueScenarioResponse:
    """The value of the scene."""
    flagged = set(map(id, found.inconsistencies))
    return pb.ValueScenarioResponse(
        products=[_row(row) for row in found.products],
        total=encode_estimate(found.total),
        direct_and_total=encode_estimate(found.direct_and_total),
        uplift=encode_estimate(found.uplift),
        direct_payback_years=encode_figure(found.direct_payback_years),
        payback_years=encode_figure(found.payback_years),
        contract_return=encode_figure(found.contract_return),
        checks=[_check(check, flagged=id(check) in flagged) for check in found.checks],
    )


def _product(message: pb.ScenarioProduct, measured: Measurements) -> Product:
    return Product(message.product, **dict(_inputs(message, measured)))


def _inputs(message: pb.ScenarioProduct, measured: Measurements) -> Iterator[tuple[str, Input]]:
    for name, value in _inputs_of(message):
        found = measured.get((message.product, name))
        if found is None:
            yield name, _input(f"products.{message.product}.{name}", value)
        else:
            yield name, Input(found.difference, Source.MEASURED, value.comparison.experiment)


def _inputs_of(message: pb.ScenarioProduct) -> Iterator[tuple[str, pb.ScenarioInput]]:
    for field, value in message.ListFields():
        if isinstance(value, pb.ScenarioInput):
            yield field.name, value


def _asked(message: pb.MeasuredComparison, project: str) -> AskedComparison:
    return AskedComparison(
        project=project,
        experiment_id=require_id(message.experiment, project, "experiments"),
        variant=message.variant,
        control=message.control,
        metric_id=require_id(message.metric, project, "metrics"),
        as_of=message.as_of,
    )


def _input(field: str, message: pb.ScenarioInput) -> Input:
    if not message.HasField("value"):
        raise invalid(f"{field}.value", "none", "a figure, or a comparison that measures it")
    estimate = Estimate(message.value, message.std_err)
    if message.measured_by:
        return Input(estimate, Source.MEASURED, message.measured_by)
    if message.std_err:
        raise invalid(f"{field}.std_err", message.std_err, "0, or measured_by with the experiment")
    return Input(estimate, Source.GIVEN, message.origin)


def _row(row: ProductValue) -> pb.ProductValue:
    return pb.ProductValue(
        product=row.name,
        users=None if row.users is None else encode_estimate(row.users),
        value_per_user=None if row.value_per_user is None else encode_estimate(row.value_per_user),
        value=encode_estimate(row.value),
    )


def _check(check: Check, *, flagged: bool) -> pb.ScenarioCheck:
    derived = encode_figure(check.derived)
    return pb.ScenarioCheck(
        quantity=_ENCODED[check.quantity],
        product=check.product,
        given=check.given,
        derived=derived.value if derived.HasField("value") else None,
        undefined=derived.undefined,
        agreement=_AGREEMENTS[check.agreement],
        flagged=flagged,
        message=check.message,
        input=check.input,
    )
