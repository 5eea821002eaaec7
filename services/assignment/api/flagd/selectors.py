"""Which flag set a client of flagd means: `flagSetId=checkout,dialect=flagd-v3`.

It stands in the metadata `flagd-selector`; the requests of FlagSyncService have a field for it too,
which older clients fill.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from touchstone_assignment.bucketing import HashVersion

from shared import errors
from shared.resource_names import OtherTenantError
from shared.security.caller import CALL, Call, Caller, Role, current_caller
from shared.server.rpc import Context, Rpc

HEADER = "flagd-selector"
FORM = (
    "comma-separated flagSetId=<project> and dialect=<dialect>, each at most once, such as "
    "flagSetId=checkout,dialect=flagd-v2"
)


@dataclass(frozen=True, slots=True)
class Selector:
    """A flag set (empty: the only one that the client may have) and a dialect of its document."""

    flag_set: str = ""
    dialect: HashVersion = HashVersion.FLAGD_V2


def read_selector(text: str) -> Selector:
    """The selector in a text; an empty one selects nothing. INVALID_ARGUMENT for another form."""
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not value or name not in ("flagSetId", "dialect") or name in found:
            raise errors.invalid(HEADER, text, FORM)
        found[name] = value
    dialect = found.get("dialect", HashVersion.FLAGD_V2.value)
    known = [version.value for version in HashVersion]
    if dialect not in known:
        raise errors.invalid(HEADER, text, f"a dialect among {', '.join(known)}")
    return Selector(found.get("flagSetId", ""), HashVersion(dialect))


def selected(request: object, context: Context) -> Selector:
    """What the call selects, of the flag sets that its caller may have: NOT_FOUND for another."""
    metadata = {
        key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
    }
    found = _selector(metadata, request)
    project = current_caller().project
    if found.flag_set not in ("", project):
        raise OtherTenantError("flag set", found.flag_set)
    return Selector(project, found.dialect)


class UnlistedFlagSetError(OtherTenantError):
    """The port for calls without a credential does not serve this project, if there is one."""

    def __init__(self, flag_set: str) -> None:
        super().__init__("flag set", flag_set)
        self.message = (
            f"no flag set {errors.shown(flag_set)} is served here; this port serves the projects "
            "that TOUCHSTONE_FLAGD_PROJECTS lists: ask the operator, or call with a key elsewhere"
        )


@dataclass(frozen=True, slots=True)
class AdmitSelected:
    """Lets calls without a credential in to the flag sets that the operator named, and no other.

    NOT_FOUND for another one, whether there is such a project or not; INVALID_ARGUMENT when
    several are named and the call selects none.
    """

    projects: tuple[str, ...]

    async def __call__(self, rpc: Rpc) -> None:
        """Notes the project as that of the call."""
        named = _selector(rpc.metadata, rpc.request).flag_set
        if not named and len(self.projects) > 1:
            raise errors.invalid(HEADER, named, "flagSetId=<project>: this port has several")
        project = named or (self.projects[0] if self.projects else "")
        if project not in self.projects:
            raise UnlistedFlagSetError(project)
        caller = Caller(project, HEADER, frozenset({Role.ASSIGN}))
        rpc.call = Call(caller, rpc.method, rpc.request_id, authorization="")
        CALL.set(rpc.call)


def _selector(metadata: Mapping[str, str], request: Any) -> Selector:
    return read_selector(metadata.get(HEADER, "") or getattr(request, "selector", ""))
