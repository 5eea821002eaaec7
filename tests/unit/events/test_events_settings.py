"""What the settings of the events service allow, and how they say so."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.events.settings import Settings
from shared.settings import settings_error


def told(**values: Any) -> str:
    """What a person reads who sets this."""
    with pytest.raises(ValidationError) as raised:
        Settings(**values)
    return settings_error(raised.value).message


def test_no_window_is_shorter_than_what_is_promised() -> None:
    assert Settings(dedupe_window_days=30).dedupe_window_days == 30
    assert "greater than or equal to 30" in told(dedupe_window_days=29)


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        (
            "project_rates",
            "acme=1" + "0" * 500,
            "allowed: PROJECT=EVENTS:BYTES, both a second and above 0, separated by commas",
        ),
        (
            "otlp_exposure_reasons",
            "split,\x1b[2J" + "x" * 500,
            "allowed: words of a to z, 0 to 9 and _, separated by commas, other than default, ",
        ),
    ],
)
def test_the_value_is_cut_and_what_is_allowed_is_not(name: str, value: str, advice: str) -> None:
    message = told(**{name: value})
    assert message.startswith(f"TOUCHSTONE_{name.upper()} does not hold: '")
    assert advice in message
    assert len(message) < 400
    assert message.isprintable()
