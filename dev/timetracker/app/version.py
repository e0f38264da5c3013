"""Which version this is: APP_VERSION when the image sets it, else setup.py."""

import os
import re
from pathlib import Path

_VERSION = re.compile(r"""^\s*version=["']([^"']+)["']""", re.MULTILINE)


def version_from_setup(path: Path | None = None) -> str:
    """The ``version="…"`` of setup.py, or ``unknown`` where there is no such file."""
    setup_file = path or Path(__file__).resolve().parent.parent / "setup.py"
    try:
        found = _VERSION.search(setup_file.read_text(encoding="utf-8"))
    except OSError:
        return "unknown"
    return found.group(1) if found else "unknown"


def app_version() -> str:
    """The version to show; an empty APP_VERSION counts as none."""
    return os.environ.get("APP_VERSION", "").strip() or version_from_setup()
