"""Models as options name them: a name, and parameters behind a colon."""

from __future__ import annotations

from collections.abc import Iterable

from touchstone.attribution.v1 import attribution_pb2 as pb

from services.cli.ascode.faults import unknown
from services.cli.credit.fields import read_fields, require_valid, wrong
from services.cli.options import parse_days

NAMES = tuple(field.name for field in pb.Model.DESCRIPTOR.oneofs_by_name["kind"].fields)
"""Every model of the contract."""


def read_model(text: str, option: str = "--model") -> pb.Model:
    """The model of NAME or NAME:FIELD=VALUE,FIELD=VALUE, by the names of the contract."""
    name, _, fields = text.partition(":")
    if name not in NAMES:
        raise wrong(option, text, unknown("model", name, NAMES))
    model = pb.Model()
    kind = getattr(model, name)
    kind.SetInParent()
    read_fields(option, text, fields, kind)
    return model


def set_order(models: Iterable[pb.Model], text: str) -> None:
    """Gives the order, or `auto`, to each model that has one."""
    if not text:
        return
    chosen = [model.markov for model in models if model.WhichOneof("kind") == "markov"]
    if not chosen:
        raise wrong("--order", text, "allowed: beside --model markov")
    if text != "auto" and not (text.isdecimal() and 1 <= int(text) <= 10):
        raise wrong("--order", text, "allowed: 1 to 10, or auto")
    for markov in chosen:
        markov.automatic_order = text == "auto"
        markov.order = 0 if text == "auto" else int(text)
        require_valid("--order", text, markov)


def set_half_life(models: Iterable[pb.Model], days: float | None) -> None:
    """Gives the half-life to each model that has one."""
    if days is None:
        return
    chosen = [model.time_decay for model in models if model.WhichOneof("kind") == "time_decay"]
    if not chosen:
        raise wrong("--half-life-days", f"{days:g}", "allowed: beside --model time_decay")
    for decay in chosen:
        decay.half_life.CopyFrom(parse_days(days, "--half-life-days"))
        require_valid("--half-life-days", f"{days:g}", decay)
