"""Images, what instances are made of besides sizes, and indexes for lists of what is newest."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"

_TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
_USER_DATA = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "images",
        sa.Column("uuid", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("disk_format", sa.String(32), nullable=False),
        sa.Column("disk", sa.JSON(), nullable=False),
        sa.Column("kernel", sa.JSON(), nullable=True),
        sa.Column("initrd", sa.JSON(), nullable=True),
        sa.Column("cmdline", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.UniqueConstraint("name", name="uq_images_name"),
    )
    with op.batch_alter_table("instances") as table:
        table.add_column(sa.Column("image", sa.JSON(), nullable=True))
        table.add_column(sa.Column("network", sa.String(255), nullable=True))
        table.add_column(sa.Column("user_data", _USER_DATA, nullable=True))
        table.add_column(sa.Column("ssh_keys", sa.JSON(), nullable=True))
        table.add_column(sa.Column("addresses", sa.JSON(), nullable=True))
    op.create_index("ix_actions_submitted_at", "actions", ["submitted_at"])
    op.create_index("ix_migrations_created_at", "migrations", ["created_at"])


def downgrade() -> None:
    op.drop_index("ix_migrations_created_at", "migrations")
    op.drop_index("ix_actions_submitted_at", "actions")
    with op.batch_alter_table("instances") as table:
        for name in ("addresses", "ssh_keys", "user_data", "network", "image"):
            table.drop_column(name)
    op.drop_table("images")
