"""Layers, their slot ledgers and every set of parameters that they ever had, in SQL."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from touchstone_assignment.bucketing import HashVersion

from services.assignment.adapters.tables import LAYERS, RESOURCE_VERSIONS, SLOT_RANGES
from services.assignment.domain.layer import Layer, LayerKind, SlotRange
from services.assignment.domain.parameter import Parameter
from services.assignment.domain.salt_checks import Salt
from shared import errors

_LAYER = LAYERS.c
_RANGE = SLOT_RANGES.c
_KEPT = RESOURCE_VERSIONS.c
_PARAMETERS = "LAYER_PARAMETERS"
Ledgers = dict[str, tuple[SlotRange, ...]]


class SqlLayerStore:
    """LayerStore over one connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def get(self, project: str, layer_id: str) -> Layer | None:
        """See LayerStore."""
        row = self._connection.execute(
            sa.select(LAYERS).where(_LAYER.project == project, _LAYER.layer_id == layer_id)
        ).first()
        if row is None:
            return None
        return _layer(row, self._ledgers(project, [layer_id]))

    def insert(self, layer: Layer) -> None:
        """See LayerStore."""
        try:
            self._connection.execute(
                sa.insert(LAYERS).values(
                    project=layer.project,
                    layer_id=layer.layer_id,
                    display_name=layer.display_name,
                    unit_type=layer.unit_type,
                    salt=layer.salt,
                    hash_version=layer.hash_version.value,
                    config_version=layer.config_version,
                    create_version=layer.config_version,
                    create_time=layer.create_time,
                    kind=layer.kind.value,
                    domain_id=layer.domain,
                    parameters=_parameters_text(layer),
                )
            )
        except IntegrityError as error:
            raise errors.already_exists("layer", layer.layer_id) from error
        self._append(layer, 0)
        # No row stands for no parameters: so are the layers of older programs.
        if layer.parameters:
            self._keep_parameters(layer)

    def replace(self, old: Layer, new: Layer) -> None:
        """See LayerStore."""
        result = self._connection.execute(
            sa.update(LAYERS)
            .where(
                _LAYER.project == old.project,
                _LAYER.layer_id == old.layer_id,
                _LAYER.config_version == old.config_version,
            )
            .values(
                config_version=new.config_version,
                display_name=new.display_name,
                parameters=_parameters_text(new),
            )
        )
        if result.rowcount != 1:
            current = self.get(old.project, old.layer_id)
            raise errors.stale_etag(
                f"layer {old.layer_id}", old.etag, current.etag if current else "none"
            )
        for position, (before, after) in enumerate(zip(old.ledger, new.ledger, strict=False)):
            if before != after:
                self._release(new, position, after)
        self._append(new, len(old.ledger))
        if old.parameters != new.parameters:
            self._keep_parameters(new)

    def page(self, project: str, after: str, limit: int) -> Sequence[Layer]:
        """See LayerStore."""
        rows = self._connection.execute(
            sa.select(LAYERS)
            .where(_LAYER.project == project, _LAYER.layer_id > after)
            .order_by(_LAYER.layer_id)
            .limit(limit)
        ).all()
        ledgers = self._ledgers(project, [row.layer_id for row in rows])
        return [_layer(row, ledgers) for row in rows]

    def all_now(self, project: str) -> dict[str, Layer]:
        """See LayerStore."""
        rows = self._connection.execute(
            sa.select(LAYERS).where(_LAYER.project == project).order_by(_LAYER.layer_id)
        ).all()
        ledgers = self._ledgers(project, None)
        return {row.layer_id: _layer(row, ledgers) for row in rows}

    def salts(self, project: str) -> list[tuple[datetime, Salt]]:
        """The salt of every layer of the project, with the time of its creation."""
        rows = self._connection.execute(
            sa.select(_LAYER.create_time, _LAYER.salt, _LAYER.hash_version).where(
                _LAYER.project == project
            )
        )
        return [(row.create_time, Salt(row.salt, HashVersion(row.hash_version))) for row in rows]

    def all_as_of(self, project: str, config_version: int) -> dict[str, Layer]:
        """Every layer of the project with what was held at a version, as held, and set then."""
        rows = self._connection.execute(
            sa.select(LAYERS)
            .where(_LAYER.project == project, _LAYER.create_version <= config_version)
            .order_by(_LAYER.layer_id)
        ).all()
        held = sa.or_(_RANGE.release_version.is_(None), _RANGE.release_version > config_version)
        ledgers = {
            layer_id: tuple(_as_held(row) for row in ledger)
            for layer_id, ledger in self._ledgers(
                project, None, _RANGE.since_version <= config_version, held
            ).items()
        }
        parameters = self._parameters_as_of(project, config_version)
        return {
            row.layer_id: replace(_layer(row, ledgers), parameters=parameters.get(row.layer_id, ()))
            for row in rows
        }

    def _parameters_as_of(
        self, project: str, config_version: int
    ) -> dict[str, tuple[Parameter, ...]]:
        rows = self._connection.execute(
            sa.select(_KEPT.resource_id, _KEPT.document)
            .where(
                _KEPT.project == project,
                _KEPT.kind == _PARAMETERS,
                _KEPT.config_version <= config_version,
            )
            .order_by(_KEPT.resource_id, _KEPT.config_version)
        )
        # Ascending versions: the last ones of each layer are what it had.
        return {row.resource_id: _parameters(row.document) for row in rows}

    def _keep_parameters(self, layer: Layer) -> None:
        self._connection.execute(
            sa.insert(RESOURCE_VERSIONS).values(
                project=layer.project,
                kind=_PARAMETERS,
                resource_id=layer.layer_id,
                config_version=layer.config_version,
                create_time=layer.create_time,
                deleted=False,
                document=_parameters_text(layer),
            )
        )

    def _ledgers(
        self, project: str, layer_ids: Sequence[str] | None, *conditions: sa.ColumnElement[bool]
    ) -> Ledgers:
        query = sa.select(SLOT_RANGES).where(_RANGE.project == project, *conditions)
        if layer_ids is not None:
            query = query.where(_RANGE.layer_id.in_(layer_ids))
        ranges: dict[str, list[SlotRange]] = defaultdict(list)
        for row in self._connection.execute(query.order_by(_RANGE.layer_id, _RANGE.position)):
            ranges[row.layer_id].append(_slot_range(row))
        return {layer_id: tuple(rows) for layer_id, rows in ranges.items()}

    def _append(self, layer: Layer, start: int) -> None:
        rows = [
            {
                "project": layer.project,
                "layer_id": layer.layer_id,
                "position": position,
                "first_slot": row.first,
                "end_slot": row.end,
                "experiment_id": row.experiment_id,
                "domain_id": row.domain_id,
                "since_version": row.since_version,
                **_release_columns(row),
            }
            for position, row in enumerate(layer.ledger)
            if position >= start
        ]
        if rows:
            self._connection.execute(sa.insert(SLOT_RANGES), rows)

    def _release(self, layer: Layer, position: int, row: SlotRange) -> None:
        self._connection.execute(
            sa.update(SLOT_RANGES)
            .where(
                _RANGE.project == layer.project,
                _RANGE.layer_id == layer.layer_id,
                _RANGE.position == position,
                _RANGE.release_version.is_(None),
            )
            .values(_release_columns(row))
        )


def _release_columns(row: SlotRange) -> dict[str, object]:
    return {
        "release_version": row.release_version,
        "release_time": row.release_time,
        "reusable_time": row.reusable_time,
    }


def _as_held(row: SlotRange) -> SlotRange:
    return replace(row, release_version=None, release_time=None, reusable_time=None)


def _slot_range(row: sa.Row[Any]) -> SlotRange:
    return SlotRange(
        first=row.first_slot,
        end=row.end_slot,
        experiment_id=row.experiment_id,
        since_version=row.since_version,
        release_version=row.release_version,
        release_time=row.release_time,
        reusable_time=row.reusable_time,
        domain_id=row.domain_id,
    )


def _parameters_text(layer: Layer) -> str:
    rows = [[found.key, found.default, found.description] for found in layer.parameters]
    return json.dumps(rows, separators=(",", ":"))


def _parameters(text: str) -> tuple[Parameter, ...]:
    return tuple(Parameter(*row) for row in json.loads(text))


def _layer(row: sa.Row[Any], ledgers: Ledgers) -> Layer:
    return Layer(
        project=row.project,
        layer_id=row.layer_id,
        display_name=row.display_name,
        unit_type=row.unit_type,
        salt=row.salt,
        hash_version=HashVersion(row.hash_version),
        config_version=row.config_version,
        create_time=row.create_time,
        ledger=ledgers.get(row.layer_id, ()),
        kind=LayerKind(row.kind),
        domain=row.domain_id,
        parameters=_parameters(row.parameters),
    )
