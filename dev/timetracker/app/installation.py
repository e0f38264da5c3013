"""installation.json: what an installation keeps outside the database."""

import json
import os
import uuid
from pathlib import Path
from typing import Any

from flask import Flask


def installation_file(app: Flask) -> Path:
    """Where it lies."""
    return Path(app.config["INSTALLATION_CONFIG_DIR"]) / "installation.json"


def read_installation(app: Flask) -> dict[str, Any]:
    """Its content; an absent or unreadable file is an installation not set up."""
    try:
        content = json.loads(installation_file(app).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"setup_complete": False}
    return content if isinstance(content, dict) else {"setup_complete": False}


def write_installation(app: Flask, content: dict[str, Any]) -> None:
    """Replaces it in one step, so that a crash never leaves half a file."""
    target = installation_file(app)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(target)


def ensure_installation(app: Flask) -> None:
    """Gives the installation its id and its upload folder."""
    try:
        Path(app.config["UPLOAD_FOLDER"]).mkdir(parents=True, exist_ok=True)
        if "installation_id" not in read_installation(app):
            write_installation(
                app, {"setup_complete": False, "installation_id": str(uuid.uuid4())}
            )
    except OSError as error:
        app.logger.warning("data folder is not writable: %s", error)
