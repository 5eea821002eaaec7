"""What a telemetry record says of the evaluation of a flag, in any of the spellings in the field.

The names are those of the OpenTelemetry semantic conventions for feature flags and of the
OpenFeature SDKs, which changed them more than once (docs/how-to/otlp.md lists them).
"""

import hashlib
import json
import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import NamedTuple

EVENT_NAME = "feature_flag.evaluation"
KEY = "feature_flag.key"
CONTEXT_ID = "feature_flag.context.id"
UNIT_TYPE = "touchstone.unit.type"
NO_CHOICE = frozenset({"static", "default", "disabled", "error"})
"""Reasons that say that nothing was chosen for the unit. They never make an exposure."""
VALUE_BYTES = 4096
_VARIANTS = ("feature_flag.result.variant", "feature_flag.variant")
_REASONS = ("feature_flag.result.reason", "feature_flag.evaluation.reason")
_PROVIDERS = ("feature_flag.provider.name", "feature_flag.provider_name")
_VALUES = ("feature_flag.result.value", "feature_flag.evaluation.value", "feature_flag.value")
_FLAG_SET = "feature_flag.set.id"
_VERSION = "feature_flag.version"
_ERROR_TYPE = "error.type"
_MESSAGES = (
    "feature_flag.error.message",
    "feature_flag.evaluation.error.message",
    "error.message",
)
NAMES = frozenset(
    {KEY, CONTEXT_ID, UNIT_TYPE, "event.name", _FLAG_SET, _VERSION, _ERROR_TYPE}.union(
        _VARIANTS, _REASONS, _PROVIDERS, _VALUES, _MESSAGES
    )
)
"""Every attribute that is read; the others of a record may be left out."""
_EXPERIMENT = re.compile(r"[a-z][a-z0-9-]{0,62}")
_VARIANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_WHOLE = re.compile(r"[0-9]{1,18}")


class FlagEvaluation(NamedTuple):
    """One evaluation. What the record does not say is empty."""

    key: str
    context_id: str
    variant: str
    reason: str
    """In lower case, whatever the sender's."""
    provider: str
    flag_set: str
    version: str
    error_type: str

    @property
    def config_version(self) -> int:
        """The version as a number, as Touchstone's own services send it; 0 when it is none."""
        return int(self.version) if _WHOLE.fullmatch(self.version) else 0


def read_evaluation(attributes: Mapping[str, object]) -> FlagEvaluation:
    """The evaluation that a record's attributes describe."""
    get = attributes.get
    return FlagEvaluation(
        _text(get(KEY)),
        _text(get(CONTEXT_ID)),
        _text(get(_VARIANTS[0])) or _text(get(_VARIANTS[1])),
        (_text(get(_REASONS[0])) or _text(get(_REASONS[1]))).lower(),
        _text(get(_PROVIDERS[0])) or _text(get(_PROVIDERS[1])),
        _text(get(_FLAG_SET)),
        _text(get(_VERSION)),
        _text(get(_ERROR_TYPE)),
    )


def read_value(attributes: Mapping[str, object], body: object) -> str:
    """The value that was served, as JSON, from the attributes or the body.

    Empty when the record tells none, or one that takes more than VALUE_BYTES.
    """
    for name in _VALUES:
        if name in attributes:
            return _as_json(attributes[name])
    if isinstance(body, str) and body.startswith("{"):
        body = _parsed(body)
    if isinstance(body, dict) and body.get("value") is not None:
        return _as_json(body["value"])
    return ""


def read_error_message(attributes: Mapping[str, object]) -> str:
    """What the record says of an error; empty when it says nothing."""
    return next(filter(None, (_text(attributes.get(name)) for name in _MESSAGES)), "")


def is_exposure(evaluation: FlagEvaluation, reasons: frozenset[str]) -> bool:
    """Whether the unit met a variant of an experiment, and not merely a flag was read.

    `reasons` are those that say that the variant was chosen for the unit, in lower case.
    """
    return (
        evaluation.reason in reasons
        and not evaluation.error_type
        and evaluation.context_id != ""
        and _EXPERIMENT.fullmatch(evaluation.key) is not None
        and _VARIANT.fullmatch(evaluation.variant) is not None
    )


def event_id(time_ns: int, parts: Sequence[str]) -> str:
    """An id that is the same whenever the same record comes again: a UUID of version 8.

    The first 48 bits are the record's time in milliseconds, because ids in the order of time store
    best; 74 bits are of blake2b over the time, the parts and their lengths, without which two
    records could be written alike.
    """
    lengths = ",".join(map(str, map(len, parts)))
    text = "\0".join((str(time_ns), lengths, *parts))
    digest = hashlib.blake2b(text.encode(), digest_size=10).digest()
    time, rest = f"{time_ns // 1_000_000:012x}", digest.hex()
    variant = "89ab"[digest[9] & 3]
    return f"{time[:8]}-{time[8:]}-8{rest[:3]}-{variant}{rest[3:6]}-{rest[6:18]}"


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else _json(value)


def _as_json(value: object) -> str:
    """The value as JSON. A text that is JSON of an object, a list or a text is that JSON: some
    SDKs write every value so, others only what no attribute can hold.
    """
    if value is None:
        return ""
    if isinstance(value, str) and value[:1] in {"{", "[", '"'} and _parsed(value) is not None:
        return value
    text = _json(value)
    return text if len(text.encode()) <= VALUE_BYTES else ""


def _parsed(text: str) -> object:
    if len(text.encode()) > VALUE_BYTES:
        return None
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found


def _json(value: object) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _plain(value: object) -> object:
    """The value with everything that JSON does not have written as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
