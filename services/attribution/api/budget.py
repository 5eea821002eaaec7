"""What budgets are measured by: a kept report, imported spend and calibration."""

from dataclasses import dataclass, replace

from touchstone.attribution.v1 import (
    budget_pb2,
    calibration_pb2,
    calibration_service_pb2,
    report_pb2,
)
from touchstone.attribution.v1 import economics_service_pb2 as pb

from services.attribution.api.kept_calibration import KeptCalibration
from services.attribution.application.budget_evidence import (
    Histories,
    MeasuredKappas,
    MeasureHistories,
    measure_histories,
    place_of,
)
from services.attribution.application.charges import spend_digest
from services.attribution.domain.economics import CostBasis
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog, StoredReport
from services.attribution.wire.budget import Evidence
from services.attribution.wire.calibration_tests import outcome_of
from services.attribution.wire.economics import (
    credited_report,
    decode_money_rules,
    encode_conflict,
)
from services.attribution.wire.reports import encode_report, question_of


@dataclass(frozen=True, slots=True)
class BudgetEvidence:
    """Measures what lines of a budget ask for."""

    log: JourneyLog
    limits: AttributionLimits
    calibration: KeptCalibration

    def of(
        self, request: pb.AllocateBudgetRequest, project: str
    ) -> tuple[Evidence, budget_pb2.BudgetProvenance]:
        """What the lines are measured by, and what that is a function of."""
        asked = request.evidence
        stored = self.calibration.report(project, asked.report)
        report = encode_report(stored)
        credited = credited_report(report)
        place = place_of(credited.results, asked.model_name)
        by_value = asked.outcome == calibration_pb2.TESTED_OUTCOME_VALUE
        told = budget_pb2.BudgetProvenance(
            report=report.name,
            report_digest=report.digest,
            model_name=credited.results[place].name,
            outcome=outcome_of(by_value=by_value),
        )
        evidence = Evidence()
        measured = [line.channel for line in request.lines if line.HasField("measured")]
        if measured:
            found = self._histories(stored, report, asked, place)
            evidence = replace(evidence, histories=found)
            told.currency, told.settling_days = found.money.currency, found.settling
            told.spend_digest = spend_digest(found.spend)
            told.conflicts.extend(map(encode_conflict, found.conflicts(measured)))
        if any(line.calibrate for line in request.lines):
            kappas = self._kappas(stored, asked, place, told)
            evidence = replace(evidence, kappas=kappas)
        return evidence, told

    def _histories(
        self,
        stored: StoredReport,
        report: report_pb2.AttributionReport,
        asked: pb.BudgetEvidence,
        place: int,
    ) -> Histories:
        rules = decode_money_rules(asked.costs, asked.currency, asked.exchange_rates)
        rules = replace(rules, costs=replace(rules.costs, basis=CostBasis.IMPORTED))
        command = MeasureHistories(
            question=question_of(stored),
            credited=credited_report(report),
            place=place,
            rules=rules,
            by_value=asked.outcome == calibration_pb2.TESTED_OUTCOME_VALUE,
            settling=asked.settling_days if asked.HasField("settling_days") else None,
        )
        return measure_histories(command, self.log, self.limits, self.calibration.ledger)

    def _kappas(
        self,
        stored: StoredReport,
        asked: pb.BudgetEvidence,
        place: int,
        told: budget_pb2.BudgetProvenance,
    ) -> MeasuredKappas:
        request = calibration_service_pb2.CalibrateReportRequest(
            report=asked.report,
            links=asked.links,
            as_of=asked.as_of,
            untested=asked.untested,
            alpha=asked.alpha,
            costs=asked.costs,
            currency=asked.currency,
            exchange_rates=asked.exchange_rates,
        )
        found, message = self.calibration.calibrated(request, stored)
        told.calibration_digest = message.digest
        told.calibration_watermark = message.provenance.watermark
        told.findings.extend((*message.findings, *message.results[place].findings))
        by_value = told.outcome == calibration_pb2.TESTED_OUTCOME_VALUE
        return MeasuredKappas(found.results[place], by_value)
