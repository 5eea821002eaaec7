"""What is kept of what was asked for."""

from __future__ import annotations

from shared.identity.few import Few


def test_a_result_is_made_once_and_those_asked_for_last_stay() -> None:
    made: list[str] = []

    def make(key: str) -> str:
        made.append(key)
        return key.upper()

    few: Few[str, str] = Few(2)
    for key in "abacab":
        assert few.of(key, lambda key=key: make(key)) == key.upper()  # type: ignore[misc]
    assert made == ["a", "b", "c", "b"]
    assert len(few) == 2
