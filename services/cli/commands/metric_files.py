"""touchstone metric validate, diff, apply, export: metrics as code."""

from __future__ import annotations

from services.cli.ascode.kinds import METRICS
from services.cli.commands.ascode import (
    DryRunOfFiles,
    Folder,
    Job,
    Paths,
    Prune,
    bring_about,
    loaded,
    show_difference,
    write_files,
)
from services.cli.options import Data, Output
from services.cli.rendering import Format
from services.cli.terminal import say


def validate(paths: Paths) -> None:
    """Check files without a service. What only one kind may have is checked by apply --dry-run.

    Example: touchstone metric validate metrics.yaml
    """
    count = sum(each.kind.name in METRICS for each in loaded(paths))
    say(f"{count} metrics are right")


def diff(
    paths: Paths, prune: Prune = False, data: Data = None, output: Output = Format.TABLE
) -> None:
    """Show what apply would do to metrics. Changes nothing; other resources are left alone.

    Ends with 0 when nothing differs, 3 when something does, 1 when a difference is refused.

    Example: touchstone metric diff metrics.yaml
    """
    show_difference(Job(paths, prune, METRICS), data, output)


def apply(
    paths: Paths,
    prune: Prune = False,
    dry_run: DryRunOfFiles = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Bring the metrics to what the files say; other resources in them are left alone.

    Example: touchstone metric apply metrics.yaml
    """
    bring_about(Job(paths, prune, METRICS), data, output, dry_run=dry_run)


def export(folder: Folder = None, data: Data = None) -> None:
    """Write the metrics as YAML, which diff finds no difference to.

    Example: touchstone metric export --folder definitions
    """
    write_files(METRICS, folder, data)
