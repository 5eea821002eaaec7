"""When the schedule of an experiment next has something to do."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime

revision = "assignment_0005"
down_revision = "assignment_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column, which nothing that stands there needs: none of it has a schedule."""
    op.add_column("assignment_experiments", sa.Column("due_time", UtcTime()))
    op.create_index("assignment_experiments_by_due_time", "assignment_experiments", ["due_time"])
