"""What is left to be heard of moves that ended in doubt."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"

_TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    with op.batch_alter_table("migrations") as table:
        table.add_column(sa.Column("unclear_hosts", sa.JSON(), nullable=True))
        table.add_column(sa.Column("unclear_since", _TIME, nullable=True))
        table.create_index("ix_migrations_unclear_since", ["unclear_since"])


def downgrade() -> None:
    with op.batch_alter_table("migrations") as table:
        table.drop_index("ix_migrations_unclear_since")
        table.drop_column("unclear_since")
        table.drop_column("unclear_hosts")
