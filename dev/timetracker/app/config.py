"""Configuration from the environment, under the names that TimeTracker uses."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PLACEHOLDER_SECRET_KEYS = frozenset(
    {
        "dev-secret-key-change-in-production",
        "your-secret-key-change-this",
        "your-secret-key-here",
    }
)
MINIMUM_SECRET_KEY_LENGTH = 32
_TRUE = frozenset({"1", "true", "yes", "on"})


class ConfigurationError(RuntimeError):
    """The environment does not allow the app to start."""


def flag(environ: Mapping[str, str], name: str, default: bool) -> bool:
    """A boolean variable; empty counts as absent."""
    value = environ.get(name, "").strip().lower()
    return value in _TRUE if value else default


def is_migrate_mode(environ: Mapping[str, str] | None = None) -> bool:
    """Whether only migrations are to run: no scheduler, no access to the database."""
    source = os.environ if environ is None else environ
    return source.get("TT_BOOTSTRAP_MODE", "").strip().lower() == "migrate"


def check_secret_key(secret_key: str | None) -> None:
    """Refuses what would let anybody sign a session in production."""
    if not secret_key:
        raise ConfigurationError("SECRET_KEY is missing: set a random one.")
    if secret_key in PLACEHOLDER_SECRET_KEYS:
        raise ConfigurationError("SECRET_KEY is a placeholder: set a random one.")
    if len(secret_key) < MINIMUM_SECRET_KEY_LENGTH:
        raise ConfigurationError(
            f"SECRET_KEY is shorter than {MINIMUM_SECRET_KEY_LENGTH} characters."
        )


def database_url(environ: Mapping[str, str], data_folder: Path) -> str:
    """DATABASE_URL, or a SQLite file in the data folder."""
    url = environ.get("DATABASE_URL", "").strip()
    return url or f"sqlite:///{data_folder / 'timetracker.db'}"


def engine_options(url: str) -> dict[str, Any]:
    """A database that does not answer must not hang the readiness probe."""
    if url.startswith("postgresql"):
        return {"pool_pre_ping": True, "connect_args": {"connect_timeout": 5}}
    return {}


def load_config(environ: Mapping[str, str]) -> dict[str, Any]:
    """The Flask configuration for this environment."""
    environment = environ.get("FLASK_ENV", "").strip() or "production"
    production = environment == "production"
    data_folder = Path(environ.get("INSTALLATION_CONFIG_DIR", "").strip() or "/data")
    uploads = environ.get("UPLOAD_FOLDER", "").strip()
    url = database_url(environ, data_folder)
    secret_key = environ.get("SECRET_KEY", "").strip() or None
    if secret_key is None and not production:
        secret_key = "dev-secret-key-change-in-production"  # nosec B105
    return {
        "ENVIRONMENT": environment,
        "SECRET_KEY": secret_key,
        "SQLALCHEMY_DATABASE_URI": url,
        "SQLALCHEMY_ENGINE_OPTIONS": engine_options(url),
        "INSTALLATION_CONFIG_DIR": str(data_folder),
        "UPLOAD_FOLDER": uploads or str(data_folder / "uploads"),
        "MAX_CONTENT_LENGTH": 2 * 1024 * 1024,
        "SESSION_COOKIE_SECURE": flag(environ, "SESSION_COOKIE_SECURE", production),
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "WTF_CSRF_ENABLED": flag(environ, "WTF_CSRF_ENABLED", True),
        "WTF_CSRF_SSL_STRICT": flag(environ, "WTF_CSRF_SSL_STRICT", production),
        "ADMIN_USERNAMES": admin_usernames(environ.get("ADMIN_USERNAMES", "admin")),
        "ALLOW_SELF_REGISTER": flag(environ, "ALLOW_SELF_REGISTER", True),
        "CURRENCY": environ.get("CURRENCY", "").strip() or "EUR",
        "TIMEZONE": environ.get("TZ", "").strip() or "Europe/Rome",
        "SCHEDULER_INTERVAL_SECONDS": 60.0,
        "PASSWORD_HASH_METHOD": "scrypt",  # nosec B105
    }


def admin_usernames(value: str) -> frozenset[str]:
    """The names of a comma-separated list, in lower case."""
    return frozenset(name.strip().lower() for name in value.split(",") if name.strip())
