"""Choose what runs the long operations of the events service."""

from collections.abc import Sequence

from services.events.composition.core import Core
from shared.mutations import Mutations
from shared.operations.runner import Kind, OperationRunner
from shared.operations.servicer import operations_servicer
from shared.operations.store import migrate_operations
from shared.server.run import Servicer


def open_operations(core: Core, kinds: Sequence[Kind]) -> OperationRunner:
    """The runner of these kinds. The lock on the journal makes it the only one."""
    platform = core.platform
    migrate_operations(platform.database)
    return OperationRunner(platform.database, platform.clock, platform.ids, kinds, sole=True)


def events_operations_servicer(core: Core, runner: OperationRunner) -> Servicer:
    """google.longrunning.Operations."""
    platform = core.platform
    mutations = Mutations(platform.database, platform.audit_keys, platform.clock)
    return operations_servicer(platform, mutations, runner)
