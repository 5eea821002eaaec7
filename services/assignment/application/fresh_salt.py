"""Draw a salt that no other cut of the project has, or depends on."""

from collections.abc import Sequence

from touchstone_assignment.bucketing import HashVersion

from services.assignment.domain.limits import LIMITS
from services.assignment.domain.salt_checks import Salt, dependent_on
from shared.errors import Code, DomainError
from shared.ids import IdGenerator


def fresh_salt(
    purpose: str, hash_version: HashVersion, others: Sequence[Salt], ids: IdGenerator
) -> str:
    """`<purpose>/<id>`, different from every salt of the project and independent of the newest.

    `others` come newest first. FAILED_PRECONDITION with SALTS_DEPEND when no salt that was drawn
    would do.
    """
    taken = {other.salt for other in others}
    compared = others[: LIMITS.max_salts_compared]
    for _ in range(LIMITS.max_salts_drawn):
        salt = Salt(f"{purpose}/{ids.new()}", hash_version)
        if salt.salt not in taken and dependent_on(salt, compared) is None:
            return salt.salt
    raise DomainError(
        Code.FAILED_PRECONDITION,
        "SALTS_DEPEND",
        f"none of {LIMITS.max_salts_drawn} salts that were drawn is independent of the salts of "
        "the project, which chance does not bring about: call CheckSalts, and tell the operator",
    )
