"""Writes the migrations of the current directory's tree as JSON to the file descriptor TT_AGENT_RESULT_FD.

Fed on standard input to the image's own Python. TT_AGENT_MIGRATIONS is the folder of the migrations.
"""

import ast
import json
import os
import sys
import warnings


def printable(text):
    """File names may be anything; JSON must be text."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def syntax_errors(folder):
    """Files that are no Python, with the line."""
    found = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if not entry.name.endswith(".py") or not entry.is_file():
            continue
        try:
            with open(entry.path, "rb") as file:
                ast.parse(file.read(), printable(entry.name))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", None)
            message = getattr(error, "msg", None) or f"{type(error).__name__}: {error}"
            place = f", line {line}" if line else ""
            found.append(f"{printable(entry.name)}{place}: {printable(str(message))}")
    return found


def does_nothing(function):
    """Whether the function is missing, or has nothing but a docstring, pass or a refusal."""
    if function is None:
        return True
    for statement in function.body:
        constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        empty = isinstance(statement, ast.Return) and statement.value is None
        if not (constant or empty or isinstance(statement, (ast.Pass, ast.Raise))):
            return False
    return True


def has_downgrade(path):
    """Whether downgrade() does anything, or upgrade() doesn't either."""
    with open(path, "rb") as file:
        tree = ast.parse(file.read())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    return does_nothing(functions.get("upgrade")) or not does_nothing(functions.get("downgrade"))


def parents(value):
    """down_revision as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else sorted(value)


def read(directory):
    """Everything about the migrations, or why it can't be had."""
    versions = os.path.join(directory, "versions")
    if not os.path.isdir(versions):
        return {"revisions": {}, "heads": []}
    broken = syntax_errors(versions)
    if broken:
        return {"broken": broken[:20]}
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    warnings.filterwarnings("error", message="Revision .* is present more than once")
    ini = os.path.join(directory, "alembic.ini")
    config = Config(ini) if os.path.isfile(ini) else Config()
    config.set_main_option("script_location", directory.replace("%", "%%"))
    try:
        scripts = ScriptDirectory.from_config(config)
        heads = sorted(scripts.get_heads())
        found = {
            script.revision: {
                "file": printable(os.path.basename(script.path)),
                "parents": parents(script.down_revision),
                "hasDowngrade": has_downgrade(script.path),
            }
            for script in scripts.walk_revisions("base", "heads")
        }
    except Exception as error:  # whatever a migration's own code raises
        return {"broken": [printable(f"{type(error).__name__}: {error}")]}
    return {"revisions": found, "heads": heads}


def main():
    descriptor = int(os.environ.pop("TT_AGENT_RESULT_FD"))
    answer = read(os.environ.pop("TT_AGENT_MIGRATIONS"))
    with os.fdopen(descriptor, "w", encoding="utf-8") as result:
        json.dump(answer, result)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


main()
