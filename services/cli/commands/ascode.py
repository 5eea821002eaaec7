"""touchstone experiment validate, diff, apply, export: experiments as code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.ascode.build import ANY_PROJECT
from services.cli.ascode.carry_out import carry_out, check
from services.cli.ascode.export import exported, joined
from services.cli.ascode.faults import FaultyError
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


def validate(paths: Paths) -> None:
    """Check files without a service: what they hold, and what they need of one another.

    Example: touchstone experiment validate experiments/
    """
    say(f"{len(_loaded(paths))} resources are right")


def diff(
    paths: Paths, prune: Prune = False, data: Data = None, output: Output = Format.TABLE
) -> None:
    """Show what apply would do, and how many units it would move. Changes nothing.

    Ends with 0 when nothing differs, 3 when something does, 1 when a difference is refused.

    Example: touchstone experiment diff experiments/
    """
    _loaded(paths)
    with open_session(data) as session:
        plan = _shown(paths, session, prune=prune, output=output)
    if plan.refused:
        raise typer.Exit(FAILED)
    if plan.differs:
        raise typer.Exit(DIFFERS)


def apply(
    paths: Paths,
    prune: Prune = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let the service check it, and change nothing.")
    ] = False,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Bring the project to what the files say. The same files again change nothing.

    Example: touchstone experiment apply experiments/
    """
    _loaded(paths)
    with open_session(data) as session:
        plan = _shown(paths, session, prune=prune, output=output)
        if plan.refused:
            say("nothing was changed, because something is refused")
            raise typer.Exit(FAILED)
        if dry_run:
            check(plan, session)
            say("nothing was changed")
            return
        done = carry_out(plan, session, say)
    say(f"{done} changes")


def export(
    folder: Annotated[
        Path | None,
        typer.Option(help="Write a file for each resource here, instead of all to the output."),
    ] = None,
    data: Data = None,
) -> None:
    """Write the project as YAML, which diff finds no difference to.

    What is over is left out and named, as is what names it: the files can make another project.

    Example: touchstone experiment export --folder experiments
    """
    with open_session(data) as session:
        export_of = exported(present(session))
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


def _shown(paths: list[Path], session: Session, *, prune: bool, output: Format) -> Plan:
    declared = _loaded(paths, session.project)
    plan = make_plan(declared, present(session), prune=prune)
    if plan.differs or output is not Format.TABLE:
        write(view(plan), output)
    for line in remarks(plan):
        say(line)
    return plan


def _loaded(paths: list[Path], project: str = ANY_PROJECT) -> list[Declared]:
    try:
        return load(paths, project)
    except FaultyError as error:
        for line in error.lines():
            say(line)
        say(f"{len(error.faults)} faults")
        raise typer.Exit(FAILED) from error
