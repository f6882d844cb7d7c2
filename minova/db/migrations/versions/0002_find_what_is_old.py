"""Find what is old, to purge it."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index("ix_actions_finished_at", "actions", ["finished_at"], unique=False)
    op.create_index("ix_instance_faults_created_at", "instance_faults", ["created_at"], unique=False)
    op.create_index("ix_instances_deleted_at", "instances", ["deleted_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_instances_deleted_at", table_name="instances")
    op.drop_index("ix_instance_faults_created_at", table_name="instance_faults")
    op.drop_index("ix_actions_finished_at", table_name="actions")
