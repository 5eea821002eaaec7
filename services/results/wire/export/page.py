"""Results as a page for people: one file, without links, scripts or anything from elsewhere.

What to do comes first, then whether the data can be trusted, then every metric, then what the
numbers are a function of.
"""

from collections.abc import Iterable, Iterator
from html import escape

from touchstone.results.v1 import results_pb2 as pb

from services.results.wire.export.metric_section import metric_section
from services.results.wire.export.words import enum_word, equals, last_part

STYLE = """
:root { color-scheme: light }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
       color: #1a1a1a; background: #fff }
h2 { margin-top: 2.5rem; border-bottom: 2px solid #1a1a1a }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
caption { text-align: left; font-weight: bold; padding: .35rem 0 }
th, td { text-align: right; vertical-align: top; padding: .3rem .7rem;
         border-bottom: 1px solid #767676; font-variant-numeric: tabular-nums }
th[scope=row], th.first, td.words { text-align: left }
.alert { border-left: .4rem solid #a30018; padding: .5rem 1rem; background: #fdecef }
.note { color: #4a4a4a }
dt { font-weight: bold } dd { margin: 0 0 .5rem; overflow-wrap: anywhere }
svg { display: block }
"""


def encode_html(results: pb.Results) -> bytes:
    """The page, in UTF-8. Every text of a user is escaped."""
    title = escape(last_part(results.experiment))
    parts = (
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Results of {title}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>Results of {title}</h1>",
        *_decisions(results),
        *_health(results),
        *_metrics(results),
        *_peeking(results),
        *_provenance(results),
        "</main></body></html>\n",
    )
    return "\n".join(parts).encode()


def _decisions(results: pb.Results) -> Iterator[str]:
    yield "<section><h2>What to do</h2>"
    if not results.decisions:
        yield '<p class="note">There is no treatment to decide on.</p>'
    if results.method_choice.message:
        method = enum_word(results, "method").replace("_", " ")
        yield f"<p>Read by the method {method}: {escape(results.method_choice.message)}.</p>"
    yield "<ul>"
    for one in results.decisions:
        verdict = enum_word(one, "verdict").replace("_", " ")
        yield f"<li><strong>{escape(one.variant)}: {verdict}</strong>"
        yield "<ul>"
        yield from (f"<li>{escape(reason.message)}</li>" for reason in one.reasons)
        yield "</ul></li>"
    yield "</ul></section>"


def _health(results: pb.Results) -> Iterator[str]:
    yield "<section><h2>Whether the data can be trusted</h2>"
    check = results.sample_ratio
    if check.alert:
        yield (
            '<p class="alert" role="alert">The arms do not have the sizes that their weights '
            "promise. Find the cause before you trust anything below.</p>"
        )
    if results.HasField("removed_since"):
        yield f'<p class="alert" role="alert">{_removed(results.removed_since)}</p>'
    yield f"<p>Sample ratio: p {equals(check.p_value)}; alert below {check.alert_level:g}.</p>"
    yield '<div class="wide"><table><caption>Units of each arm</caption><thead><tr>'
    yield '<th scope="col" class="first">Arm</th><th scope="col">Weight</th>'
    yield '<th scope="col">Units</th></tr></thead><tbody>'
    for arm in results.arms:
        name = escape(arm.variant) + (" (control)" if arm.control else "")
        yield f'<tr><th scope="row">{name}</th><td>{arm.weight}</td><td>{arm.units:,}</td></tr>'
    yield "</tbody></table></div><ul>"
    yield from (f"<li>{count:,} {words}</li>" for count, words in _left_out(results) if count)
    yield "</ul></section>"


def _left_out(results: pb.Results) -> Iterable[tuple[int, str]]:
    return (
        (results.multiply_exposed_units, "units saw several variants."),
        (results.unknown_variant_exposures, "exposures are of variants that are not known."),
        (results.ambiguous_exposures, "exposures could be of several units."),
        (results.ambiguous_conversions, "events could be of several units."),
        (results.forced_units, "units were looked at with a forced variant."),
        (results.unclustered_units, "units belong to no cluster and are in no comparison."),
    )


def _removed(found: pb.RemovedSince) -> str:
    if found.unknown:
        return (
            "It is not known whether this cut has lost events since it was current: nobody read "
            "results then, or it was too long ago."
        )
    return (
        f"{found.exposures:,} exposures and {found.conversions:,} measured events of this cut were "
        "erased or removed by retention since it was first read: earlier numbers differ."
    )


def _metrics(results: pb.Results) -> Iterator[str]:
    method = enum_word(results, "method").replace("_", " ")
    level = 1.0 - results.provenance.alpha
    yield "<section><h2>Metrics</h2>"
    yield (
        f'<p class="note">Intervals of the lift at {level:.6g}, p-values by the method of record, '
        f"{method}. A blue interval does not hold 0, a grey one does; the line in the middle is no "
        "effect. A number that the data cannot give is replaced by the reason.</p>"
    )
    for metric in results.metrics:
        yield from metric_section(metric)
    yield "</section>"


def _peeking(results: pb.Results) -> Iterator[str]:
    yield "<section><h2>What looking again and again does</h2><ul>"
    for one in results.peeking:
        yield f"<li>{escape(one.rule)}: {escape(one.statement)}</li>"
    yield "</ul></section>"


def _provenance(results: pb.Results) -> Iterator[str]:
    found = results.provenance
    facts = {
        "Experiment": results.experiment,
        "Watermark": found.watermark,
        "Configuration version": str(found.config_version),
        "Analysis plan version": str(found.plan_version),
        "Alpha": f"{found.alpha:g}",
        "Identity": found.identity_version,
        "Engine": found.engine_version,
        "Libraries": ", ".join(found.libraries),
        "Digest of the question": found.question_digest,
        "Digest of the inputs": found.inputs_digest,
    }
    yield "<section><h2>What these numbers are a function of</h2><dl>"
    for name, value in facts.items():
        if value:
            yield f"<dt>{name}</dt><dd>{escape(value)}</dd>"
    yield "</dl></section>"
