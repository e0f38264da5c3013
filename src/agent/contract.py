"""Writes what this image's code needs of its database as JSON to the file descriptor TT_AGENT_RESULT_FD.

Fed on standard input to the image's own Python. The code is imported and asked; no database is needed.
"""

import json
import os
import sys


def migrations(application):
    """The heads of the image's migrations, and all revisions that they know; none when it has no migrations."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    registered = getattr(application, "extensions", {}).get("migrate")
    directory = str(getattr(registered, "directory", None) or "migrations")
    if not os.path.isdir(directory):
        return [], []
    ini = os.path.join(directory, "alembic.ini")
    config = Config(ini) if os.path.isfile(ini) else Config()
    config.set_main_option("script_location", directory)
    scripts = ScriptDirectory.from_config(config)
    return sorted(scripts.get_heads()), sorted(script.revision for script in scripts.walk_revisions("base", "heads"))


def is_filled_by_server(column):
    """Whether the code declares that the server fills the column: a default, an identity, a computed column."""
    declared = [getattr(column, name, None) for name in ("server_default", "identity", "computed")]
    return any(part is not None for part in declared)


def tables(metadata):
    """Tables of the default schema with their columns: whether they take NULL, whether the server fills them."""
    found = {}
    for table in metadata.tables.values():
        if table.schema not in (None, "public") or table.name == "alembic_version":
            continue
        found[table.name] = {
            column.name: {
                "nullable": bool(column.nullable) and not column.primary_key,
                "filledByServer": is_filled_by_server(column),
            }
            for column in table.columns
        }
    return found


def main():
    descriptor = int(os.environ.pop("TT_AGENT_RESULT_FD"))
    from app import create_app, db

    application = create_app()
    heads, known = migrations(application)
    contract = {"heads": heads, "known": known, "tables": tables(db.metadata)}
    with os.fdopen(descriptor, "w", encoding="utf-8") as result:
        json.dump(contract, result)
    sys.stdout.flush()
    sys.stderr.flush()
    # Without waiting for threads that the app may have started: a scheduler, a telemetry exporter.
    os._exit(0)


main()
