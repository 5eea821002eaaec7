"""One experiment for many units at once, with numpy; nothing else of the package needs numpy."""

from touchstone_assignment.bulk.decide import BulkDecisions, decide_many
from touchstone_assignment.bulk.ids import IdColumn, Ids

__all__ = ["BulkDecisions", "IdColumn", "Ids", "decide_many"]
