"""A salt that collides is drawn again, and given up when chance cannot be what is wrong."""

from dataclasses import dataclass, field, replace

import pytest
from touchstone_assignment.bucketing import HashVersion

from services.assignment.application.fresh_salt import fresh_salt
from services.assignment.domain.limits import LIMITS
from services.assignment.domain.salt_checks import Salt, dependent_on
from shared.errors import Code, DomainError
from shared.testing.fakes import CountingIds
from tests.unit.assignment.storing import Stored

V2, V3 = HashVersion.FLAGD_V2, HashVersion.FLAGD_V3
# Under flagd-v3 a key of 47 bytes is hashed with the head "x/" before it, so that the salt of 38
# characters cuts the eight-digit units as another one does under flagd-v2: a dependent pair.
TAKEN = "layer/00000000000000000000000000000007"
UNDER_V2 = Salt(f"x/{TAKEN}", V2)


@dataclass
class Drawing:
    """Ids that come as they are told."""

    ids: list[str]
    drawn: list[str] = field(default_factory=list)

    def new(self, characters: int = 16) -> str:
        del characters
        self.drawn.append(self.ids.pop(0))
        return self.drawn[-1]


def test_an_equal_salt_is_drawn_again_whatever_its_hash() -> None:
    ids = Drawing(["a", "b", "c"])
    others = [Salt("layer/a", V3), Salt("split/b", V2), Salt("layer/b", V2)]
    assert fresh_salt("layer", V2, others, ids) == "layer/c"


def test_a_salt_that_cuts_as_another_does_is_drawn_again() -> None:
    assert dependent_on(Salt(TAKEN, V3), [UNDER_V2]) == UNDER_V2
    ids = Drawing([TAKEN.removeprefix("layer/"), "free"])
    assert fresh_salt("layer", V3, [Salt("layer/x", V2), UNDER_V2], ids) == "layer/free"
    assert fresh_salt("layer", V2, [UNDER_V2], Drawing([TAKEN.removeprefix("layer/")])) == TAKEN


def test_it_is_given_up_in_the_end() -> None:
    ids = Drawing(["a"] * 20)
    with pytest.raises(DomainError, match="CheckSalts") as caught:
        fresh_salt("layer", V2, [Salt("layer/a", V2)], ids)
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "SALTS_DEPEND")
    assert len(ids.drawn) == LIMITS.max_salts_drawn


def test_equality_is_asked_of_all_and_independence_of_the_newest() -> None:
    newest = [Salt(f"layer/{number}", V2) for number in range(LIMITS.max_salts_compared)]
    ids = Drawing([TAKEN.removeprefix("layer/")])
    assert fresh_salt("layer", V3, [*newest, UNDER_V2], ids) == TAKEN
    ids = Drawing(["a", "b"])
    assert fresh_salt("layer", V3, [*newest, Salt("layer/a", V2)], ids) == "layer/b"


def test_every_cut_of_the_project_is_looked_at_newest_first(stored: Stored) -> None:
    stored.layer("checkout")
    stored.experiment("button", layer="checkout")
    stored.holdout("all")
    cut = [
        stored.load().layers["checkout"].salt,
        stored.load().experiments["button"].design.salt,
        stored.load().holdouts["all"].salt,
    ]
    found = stored.change(lambda c: c.salts("acme"))
    assert sorted(salt.salt for salt in found) == sorted(cut)
    assert stored.change(lambda c: c.salts("other")) == []
    stored.now = stored.now.replace(year=2027)
    stored.layer("later")
    assert stored.change(lambda c: c.salts("acme"))[0].salt == stored.load().layers["later"].salt
    # The counter starts again: the first ids that come are those of salts that are taken.
    again = replace(stored, ids=CountingIds())
    again.layer("more")
    again.ids = CountingIds()
    again.holdout("more")
    salts = [salt.salt for salt in again.change(lambda c: c.salts("acme"))]
    assert len(salts) == len(set(salts)) == 6
