"""The image's default command: wait, clean up, migrate, check, seed, serve.

It behaves as TimeTracker's own start script does, with the same danger: a database that
has tables but none of ours counts as corrupted, and ALL its tables are dropped, unless
TT_SKIP_DB_CLEANUP=true. Pointed at a wrong or shared database it wipes it. An operator
starts gunicorn directly instead and runs the migration by itself.
"""

import logging
import os
import sys
import time

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

CORE_TABLES = frozenset({"users", "projects", "time_entries", "settings", "clients"})
ATTEMPTS = 30
SECONDS_BETWEEN_ATTEMPTS = 2
log = logging.getLogger("start")


class StartError(RuntimeError):
    """The app can't be started."""


def wait_for_database(engine: Engine) -> None:
    """Waits a minute for the database to answer."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            return
        except OperationalError:
            log.info("database does not answer (%d/%d)", attempt, ATTEMPTS)
            time.sleep(SECONDS_BETWEEN_ATTEMPTS)
    raise StartError("the database did not answer")


def is_corrupted(tables: set[str]) -> bool:
    """Tables, but neither a migration history nor one of ours."""
    return bool(tables) and "alembic_version" not in tables and not tables & CORE_TABLES


def drop_all_tables(engine: Engine, tables: set[str]) -> None:
    """Drops them with everything that depends on them."""
    cascade = " CASCADE" if engine.dialect.name == "postgresql" else ""
    quote = engine.dialect.identifier_preparer.quote
    with engine.begin() as connection:
        for table in sorted(tables):
            log.warning("dropping table %s", table)
            connection.execute(text(f"DROP TABLE {quote(table)}{cascade}"))


def clean_up(engine: Engine) -> None:
    """Drops everything in a database that looks corrupted."""
    tables = set(inspect(engine).get_table_names())
    if not is_corrupted(tables):
        return
    if os.environ.get("TT_SKIP_DB_CLEANUP", "").strip().lower() == "true":
        log.warning("database looks corrupted; TT_SKIP_DB_CLEANUP keeps its tables")
        return
    drop_all_tables(engine, tables)


def migrate_and_seed(engine: Engine) -> None:
    """Upgrades to the heads, checks the core tables, creates default rows."""
    os.environ["TT_BOOTSTRAP_MODE"] = "migrate"
    from flask_migrate import upgrade

    from app import create_app, db
    from app.cli import ensure_default_data

    app = create_app()
    with app.app_context():
        upgrade(revision="heads")
        missing = CORE_TABLES - set(inspect(engine).get_table_names())
        if missing:
            raise StartError(f"after the migration tables are missing: {missing}")
        try:
            ensure_default_data()
        except Exception:
            db.session.rollback()
            log.exception("default data could not be created")
    del os.environ["TT_BOOTSTRAP_MODE"]


def serve() -> None:
    """Becomes gunicorn."""
    port = os.environ.get("PORT", "8080")
    arguments = ["--bind", f"0.0.0.0:{port}", "--workers", "1", "--timeout", "120"]
    os.execvp("gunicorn", ["gunicorn", *arguments, "app:create_app()"])  # nosec


def main() -> int:
    """Any failure before the server starts is exit code 1."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    url = os.environ.get("DATABASE_URL", "").strip()
    try:
        if not url:
            raise StartError("DATABASE_URL is missing")
        engine = create_engine(url)
        wait_for_database(engine)
        clean_up(engine)
        migrate_and_seed(engine)
        engine.dispose()
    except Exception:
        log.exception("start failed")
        return 1
    sys.stdout.flush()
    serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
