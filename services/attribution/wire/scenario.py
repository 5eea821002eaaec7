"""Scenes between messages and the domain."""

from collections.abc import Iterator

from touchstone.attribution.v1 import scenario_service_pb2 as pb

from services.attribution.domain.lift import Estimate
from services.attribution.domain.scenario import (
    Agreement,
    Check,
    Input,
    Product,
    ProductValue,
    Quantity,
    Scenario,
    ScenarioValue,
    Source,
    Stated,
)
from services.attribution.wire.money import encode_estimate, encode_figure
from shared.errors import invalid

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
_ENCODED = {quantity: number for number, quantity in _QUANTITIES.items()}
_AGREEMENTS = {
    Agreement.EXACT: pb.AGREEMENT_EXACT,
    Agreement.ROUNDED: pb.AGREEMENT_ROUNDED,
    Agreement.COARSELY_ROUNDED: pb.AGREEMENT_COARSELY_ROUNDED,
    Agreement.TRUNCATED: pb.AGREEMENT_TRUNCATED,
    Agreement.INCONSISTENT: pb.AGREEMENT_INCONSISTENT,
}


def decode_scenario(request: pb.ValueScenarioRequest) -> tuple[Scenario, tuple[Stated, ...]]:
    """The scene and what is printed of it; INVALID_ARGUMENT where its parts contradict."""
    scenario = Scenario(
        products=tuple(_product(product) for product in request.products),
        investment=request.investment if request.HasField("investment") else None,
        contract_years=request.contract_years if request.HasField("contract_years") else None,
        direct_income=request.direct_income if request.HasField("direct_income") else None,
    )
    stated = (
        Stated(_QUANTITIES[each.quantity], each.value, each.decimals, each.unit or 1.0)
        for each in request.stated
    )
    return scenario, tuple(stated)


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


def _product(message: pb.ScenarioProduct) -> Product:
    return Product(message.product, **dict(_inputs(message)))


def _inputs(message: pb.ScenarioProduct) -> Iterator[tuple[str, Input]]:
    for field, value in message.ListFields():
        if isinstance(value, pb.ScenarioInput):
            yield field.name, _input(f"products.{message.product}.{field.name}", value)


def _input(field: str, message: pb.ScenarioInput) -> Input:
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
    return pb.ScenarioCheck(
        quantity=_ENCODED[check.quantity],
        product=check.product,
        given=check.given,
        derived=check.derived,
        agreement=_AGREEMENTS[check.agreement],
        flagged=flagged,
        message=check.message,
    )
