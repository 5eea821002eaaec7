"""Results as a page for people: one file, without links, scripts or anything from elsewhere."""

from collections.abc import Iterable
from html import escape

from touchstone.results.v1 import results_pb2 as pb

from services.results.wire.export.table import comparisons

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
       color: #1a1a1a; background: #fff }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid #ddd }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left }
.alert { border-left: .3rem solid #b00020; padding: .5rem 1rem; background: #fdecef }
.note { color: #555; font-size: .9em }
svg { display: block }
"""
SHOWN = (
    ("metric", "metric"),
    ("variant", "variant"),
    ("units", "units"),
    ("control mean", "control_mean"),
    ("mean", "mean"),
    ("lift", "lift"),
    ("interval", ""),
    ("p-value", "p_value"),
    ("corrected", "adjusted_p_value"),
    ("better", "probability_better"),
)


def encode_html(results: pb.Results) -> bytes:
    """The page, in UTF-8. Every text of a user is escaped."""
    title = escape(results.experiment.rsplit("/", 1)[-1])
    parts = (
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        *_health(results),
        *_decisions(results),
        *_table(results),
        *_peeking(results),
        *_provenance(results),
        "</body></html>\n",
    )
    return "\n".join(parts).encode()


def _health(results: pb.Results) -> Iterable[str]:
    if results.sample_ratio.alert:
        yield (
            '<p class="alert">The arms do not have the sizes that their weights promise. Find the '
            "cause before you trust anything below.</p>"
        )
    if results.multiply_exposed_units:
        yield (f'<p class="note">{results.multiply_exposed_units} units saw several variants.</p>')


def _decisions(results: pb.Results) -> Iterable[str]:
    yield "<h2>What to do</h2><ul>"
    for one in results.decisions:
        verdict = pb.Verdict.Name(one.verdict).removeprefix("VERDICT_").replace("_", " ").lower()
        why = "; ".join(reason.message for reason in one.reasons)
        yield f"<li><b>{escape(one.variant)}</b>: {verdict} ({escape(why)})</li>"
    yield "</ul>"


def _table(results: pb.Results) -> Iterable[str]:
    yield "<h2>Comparisons with the control</h2><table><thead><tr>"
    yield "".join(f"<th>{heading}</th>" for heading, _ in SHOWN) + "</tr></thead><tbody>"
    rows = list(comparisons(results))
    reach = max((_far(row) for row in rows), default=0.0)
    for row in rows:
        if row.get("error"):
            cells = f"<td>{escape(row['metric'])}</td><td colspan='9'>{escape(row['error'])}</td>"
        else:
            cells = "".join(f"<td>{_cell(row, name, reach)}</td>" for _, name in SHOWN)
        yield f"<tr>{cells}</tr>"
    yield "</tbody></table>"


def _cell(row: dict[str, str], name: str, reach: float) -> str:
    if not name:
        return _bar(row, reach)
    value = row.get(name, "")
    if name in ("metric", "variant", "units"):
        return escape(value)
    if not value:
        return escape(row.get("not_estimable", ""))
    if name == "lift":
        return f"{float(value):+.2%}"
    return f"{float(value):.4g}"


def _far(row: dict[str, str]) -> float:
    ends = [row.get("lift_low", ""), row.get("lift_high", "")]
    found = [abs(float(end)) for end in ends if end and "inf" not in end]
    return max(found, default=0.0)


def _bar(row: dict[str, str], reach: float) -> str:
    """The interval of the lift as a bar around zero, with its ends in words."""
    low, high = row.get("lift_low", ""), row.get("lift_high", "")
    if not low or not high:
        return ""
    if "inf" in low + high or not reach:
        return "unbounded"
    left, right = (50 + 48 * float(end) / reach for end in (low, high))
    words = f"{float(low):+.1%} to {float(high):+.1%}"
    colour = "#1b7f3b" if left > 50 or right < 50 else "#777"
    return (
        f'<svg width="160" height="14" viewBox="0 0 100 9" role="img" aria-label="{words}">'
        '<line x1="50" y1="0" x2="50" y2="9" stroke="#bbb"/>'
        f'<line x1="{left:.2f}" y1="4.5" x2="{right:.2f}" y2="4.5" stroke="{colour}" '
        f'stroke-width="3"/></svg>{words}'
    )


def _peeking(results: pb.Results) -> Iterable[str]:
    yield "<h2>What looking again and again does</h2><ul>"
    for one in results.peeking:
        yield f"<li>{escape(one.rule)}: {escape(one.statement)}</li>"
    yield "</ul>"


def _provenance(results: pb.Results) -> Iterable[str]:
    found = results.provenance
    facts = {
        "watermark": found.watermark,
        "configuration": str(found.config_version),
        "analysis plan": str(found.plan_version),
        "alpha": f"{found.alpha:g}",
        "engine": found.engine_version,
        "libraries": ", ".join(found.libraries),
        "question": found.question_digest,
        "inputs": found.inputs_digest,
    }
    shown = "; ".join(f"{name} {escape(value)}" for name, value in facts.items() if value)
    yield f'<p class="note">{shown}</p>'
