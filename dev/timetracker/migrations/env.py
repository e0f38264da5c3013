"""How Alembic runs the revisions: all of them in one transaction."""

from logging.config import fileConfig

from alembic import context
from flask import current_app
from sqlalchemy import Connection, inspect, text

config = context.config
fileConfig(config.config_file_name, disable_existing_loggers=False)
database = current_app.extensions["migrate"].db
configure_args = current_app.extensions["migrate"].configure_args
VERSION_TABLE = "alembic_version"
VERSION_LENGTH = 255


def widen_version_table(connection: Connection) -> None:
    """Alembic makes VARCHAR(32); some revision ids are longer."""
    if connection.dialect.name != "postgresql":
        return
    inspector = inspect(connection)
    if not inspector.has_table(VERSION_TABLE):
        connection.execute(
            text(
                f"CREATE TABLE {VERSION_TABLE} ("
                f"version_num VARCHAR({VERSION_LENGTH}) NOT NULL, "
                f"CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num))"
            )
        )
        return
    column = inspector.get_columns(VERSION_TABLE)[0]
    if (column["type"].length or VERSION_LENGTH) < VERSION_LENGTH:
        connection.execute(
            text(
                f"ALTER TABLE {VERSION_TABLE} "
                f"ALTER COLUMN version_num TYPE VARCHAR({VERSION_LENGTH})"
            )
        )


def run_migrations_offline() -> None:
    """Prints the SQL."""
    url = database.engine.url.render_as_string(hide_password=False)
    context.configure(
        url=url,
        target_metadata=database.metadata,
        literal_binds=True,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_migrations_online() -> None:
    """Runs them, all or (on Postgres) nothing."""
    with database.engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=database.metadata,
            transaction_per_migration=False,
            **configure_args,
        )
        # `flask db current` only reads, and says so in this option.
        changes = not context.get_context().opts.get("dont_mutate", False)
        with context.begin_transaction():
            if changes:
                widen_version_table(connection)
            context.run_migrations()


offline = context.is_offline_mode()
print(f"[alembic] offline_mode={offline}", flush=True)
if offline:
    run_migrations_offline()
else:
    run_migrations_online()
