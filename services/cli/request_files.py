"""Requests that are written as files: YAML or JSON with the field names of the contract."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import typer
import yaml
from google.protobuf import json_format
from google.protobuf.message import Message

M = TypeVar("M", bound=Message)
MAX_FILE_BYTES = 4 * 1024 * 1024


def read_request(path: Path, request: M) -> M:
    """The request with what the file says; BadParameter where it cannot be read as one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise typer.BadParameter(f"{path} has {len(content)} bytes; allowed: {MAX_FILE_BYTES}")
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise typer.BadParameter(f"{path} is neither YAML nor JSON: {error}") from error
    if not isinstance(document, dict):
        raise typer.BadParameter(f"{path} is no mapping; allowed: fields of the request")
    try:
        json_format.ParseDict(document, request)
    except json_format.ParseError as error:
        name = type(request).__name__
        raise typer.BadParameter(f"{path} is no {name}: {error}") from error
    return request
