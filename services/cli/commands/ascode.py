"""touchstone experiment and touchstone metric: validate, diff, apply, export, from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from services.cli.ascode.build import ANY_PROJECT
from services.cli.ascode.carry_out import carry_out, check
from services.cli.ascode.export import exported, joined
from services.cli.ascode.faults import FaultyError
from services.cli.ascode.kinds import ASSIGNED, GROUPINGS, METRICS
from services.cli.ascode.plan import Plan, make_plan
from services.cli.ascode.present import present
from services.cli.ascode.resources import Declared, load
from services.cli.ascode.showing import remarks, view
from services.cli.failures import FAILED, REJECTED
from services.cli.options import Data, Output
from services.cli.rendering import Format, write
from services.cli.session import Session, open_session
from services.cli.terminal import say, standard_output

DIFFERS = REJECTED
Paths = Annotated[
    list[Path], typer.Argument(help="YAML files, or folders of them.", metavar="PATH")
]
Prune = Annotated[
    bool,
    typer.Option(
        "--prune", help="Take away what is in no file: archive, delete, release, end. Layers stay."
    ),
]
DryRunOfFiles = Annotated[
    bool, typer.Option("--dry-run", help="Let the service check it, and change nothing.")
]
Folder = Annotated[
    Path | None,
    typer.Option(help="Write a file for each resource here, instead of all to the output."),
]


def validate(paths: Paths) -> None:
    """Check files without a service: what they hold, and what they need of one another.

    Example: touchstone experiment validate experiments/
    """
    say(f"{len(loaded(paths))} resources are right")


def diff(
    paths: Paths, prune: Prune = False, data: Data = None, output: Output = Format.TABLE
) -> None:
    """Show what apply would do, and how many units it would move. Changes nothing.

    Ends with 0 when nothing differs, 3 when something does, 1 when a difference is refused.

    Example: touchstone experiment diff experiments/
    """
    show_difference(Job(paths, prune), data, output)


def apply(
    paths: Paths,
    prune: Prune = False,
    dry_run: DryRunOfFiles = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Bring the project to what the files say. The same files again change nothing.

    Example: touchstone experiment apply experiments/
    """
    bring_about(Job(paths, prune), data, output, dry_run=dry_run)


def export(
    folder: Folder = None,
    data: Data = None,
) -> None:
    """Write the project as YAML, which diff finds no difference to.

    What is over is left out and named, as is what names it: the files can make another project.

    Example: touchstone experiment export --folder experiments
    """
    write_files(ASSIGNED, folder, data)


@dataclass(frozen=True, slots=True)
class Job:
    """Which files, and what of them: without `kinds` all, those of other services where the files
    have any.
    """

    paths: list[Path]
    prune: bool = False
    kinds: tuple[str, ...] = ()


def show_difference(job: Job, data: Path | None, output: Format) -> None:
    """Shows what would happen; ends with 3 when something does, 1 when it is refused."""
    loaded(job.paths)
    with open_session(data) as session:
        plan = _shown(job, session, output)
    if plan.refused:
        raise typer.Exit(FAILED)
    if plan.differs:
        raise typer.Exit(DIFFERS)


def bring_about(job: Job, data: Path | None, output: Format, *, dry_run: bool) -> None:
    """Makes the project as the files say."""
    loaded(job.paths)
    with open_session(data) as session:
        plan = _shown(job, session, output)
        if plan.refused:
            say("nothing was changed, because something is refused")
            raise typer.Exit(FAILED)
        if dry_run:
            check(plan, session)
            say("nothing was changed")
            return
        done = carry_out(plan, session, say)
    say(f"{done} changes")


def write_files(kinds: tuple[str, ...], folder: Path | None, data: Path | None) -> None:
    """Writes what there is of these kinds."""
    with open_session(data) as session:
        export_of = exported(present(session, kinds))
    for one, why in export_of.left_out:
        say(f"left out: {one.kind.name} {one.resource_id}: {why}")
    if export_of.left_out:
        say("what is left out stays in this project, unless these files are applied with --prune")
    if folder is None:
        with standard_output() as out:
            out.write(joined(text for _, text in export_of.documents))
        return
    for one, text in export_of.documents:
        file = folder / one.kind.collection / f"{one.resource_id}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    say(f"{len(export_of.documents)} files")


def _shown(job: Job, session: Session, output: Format) -> Plan:
    declared = loaded(job.paths, session.project)
    kinds = job.kinds or ASSIGNED
    for others in (METRICS, GROUPINGS):
        if not job.kinds and any(each.kind.name in others for each in declared):
            kinds += others
    wanted = [each for each in declared if each.kind.name in kinds]
    plan = make_plan(wanted, present(session, kinds), prune=job.prune)
    if plan.differs or output is not Format.TABLE:
        write(view(plan), output)
    for line in remarks(plan):
        say(line)
    return plan


def loaded(paths: list[Path], project: str = ANY_PROJECT) -> list[Declared]:
    """The resources of the files; ends with 1 and every fault when something is wrong."""
    try:
        return load(paths, project)
    except FaultyError as error:
        for line in error.lines():
            say(line)
        say(f"{len(error.faults)} faults")
        raise typer.Exit(FAILED) from error
