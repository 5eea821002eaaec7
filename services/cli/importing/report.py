"""What an import tells at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.cli.importing.checkpoint import Counts
from services.cli.importing.replay import Outcome
from services.cli.rendering import Cell
from services.cli.terminal import say, warn


@dataclass(frozen=True, slots=True)
class Report:
    """An import that came to its end."""

    dataset: str
    file: Path
    rejects_path: Path
    outcome: Outcome

    @property
    def stored(self) -> int:
        """How many events of the file the log holds now."""
        return self.outcome.counts.events_accepted + self.outcome.counts.events_duplicate


def document(report: Report) -> Mapping[str, Cell]:
    """The summary as data."""
    counts = report.outcome.counts
    return {
        "dataset": report.dataset,
        "file": str(report.file),
        "rows": counts.rows_read,
        "rejected": counts.rows_rejected,
        "partly": counts.rows_partly,
        "accepted": counts.events_accepted,
        "duplicates": counts.events_duplicate,
        "resumed_after_row": report.outcome.resumed_after_row,
        "rejects_file": str(report.rejects_path) if _has_rejects(counts) else "",
        "consistency_token": report.outcome.token,
    }


def tell(report: Report) -> None:
    """The summary in words, on standard error."""
    counts = report.outcome.counts
    if report.outcome.resumed_after_row:
        say(f"went on after row {report.outcome.resumed_after_row:,} of an interrupted import")
    if counts.events_duplicate and not counts.events_accepted:
        say(all_known(counts.events_duplicate))
    elif counts.events_duplicate:
        say(f"{counts.events_duplicate:,} event ids were accepted before and count once")
    advice = f"{report.rejects_path} has the line and reason of each: mend them in the file"
    if counts.rows_rejected:
        warn(
            f"{counts.rows_rejected:,} of {counts.rows_read:,} rows did not go in; {advice} and "
            "import it again"
        )
    if counts.rows_partly:
        warn(f"{counts.rows_partly:,} rows went in without one or more of their values; {advice}")
    if not counts.rows_read:
        warn(f"{report.file} has no rows")


def all_known(count: int) -> str:
    """What to say when no event of a file was new to the service."""
    return (
        f"nothing was stored: all {count:,} event ids were accepted before; what retention "
        "deleted since is not stored again while its id is remembered"
    )


def _has_rejects(counts: Counts) -> bool:
    return counts.rows_rejected + counts.rows_partly > 0
