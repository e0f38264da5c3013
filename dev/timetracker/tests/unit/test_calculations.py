"""Time, money, configuration, version."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from app.access import is_local_path
from app.config import (
    ConfigurationError,
    admin_usernames,
    check_secret_key,
    flag,
    load_config,
)
from app.durations import format_duration, hours, parse_timestamp, round_up_seconds
from app.durations import utc_now
from app.models import Invoice, TimeEntry
from app.money import format_money, tax
from app.scheduler import Scheduler
from app.version import app_version, version_from_setup
from start import is_corrupted

pytestmark = [pytest.mark.unit, pytest.mark.utils]


def test_seconds_are_rounded_up_to_whole_steps():
    assert [round_up_seconds(s, 15) for s in (0, 1, 900, 901)] == [0, 900, 900, 1800]
    assert round_up_seconds(59, 0) == 59
    with pytest.raises(ValueError):
        round_up_seconds(-1, 15)


def test_hours_have_two_decimals_rounded_half_up():
    assert hours(5400) == Decimal("1.50")
    assert hours(18) == Decimal("0.01")


def test_a_duration_is_shown_as_hours_and_minutes():
    assert [format_duration(s) for s in (None, 0, 3660, 360000)] == [
        *("", "0:00", "1:01", "100:00")
    ]


def test_a_timestamp_with_a_zone_becomes_utc():
    assert parse_timestamp("2026-03-02T10:00:00+02:00") == datetime(2026, 3, 2, 8)
    assert parse_timestamp("2026-03-02T10:00:00") == datetime(2026, 3, 2, 10)


def test_money_is_rounded_half_up_and_grouped():
    assert format_money(Decimal("1234.505"), "EUR") == "1,234.51 EUR"
    assert tax(Decimal("99.99"), Decimal("22")) == Decimal("22.00")


@pytest.mark.parametrize("key", [None, "your-secret-key-change-this", "short"])
def test_production_refuses_a_weak_secret_key(key):
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        check_secret_key(key)
    check_secret_key("k" * 32)


def test_the_environment_becomes_the_configuration():
    config = load_config({"INSTALLATION_CONFIG_DIR": "/srv", "CURRENCY": "CHF"})
    assert config["SQLALCHEMY_DATABASE_URI"] == "sqlite:////srv/timetracker.db"
    assert config["UPLOAD_FOLDER"] == "/srv/uploads"
    assert config["SESSION_COOKIE_SECURE"] is True
    assert config["CURRENCY"] == "CHF"
    assert admin_usernames("Ada, ,bob") == {"ada", "bob"}
    assert [flag({"X": v}, "X", True) for v in ("", "no", "TRUE")] == [
        True,
        False,
        True,
    ]


def test_the_version_is_that_of_the_image_or_of_setup_py(tmp_path, monkeypatch):
    setup_file = tmp_path / "setup.py"
    setup_file.write_text('setup(\n    version="9.8.7",\n)\n')
    assert version_from_setup(setup_file) == "9.8.7"
    assert version_from_setup(tmp_path / "missing.py") == "unknown"
    monkeypatch.setenv("APP_VERSION", "v1.2.3")
    assert app_version() == "v1.2.3"


def test_only_paths_of_this_site_are_redirect_targets():
    assert is_local_path("/projects?q=1")
    for foreign in (None, "", "//evil.test", "/\\evil.test", "https://evil.test"):
        assert not is_local_path(foreign)


def test_the_start_script_would_drop_only_foreign_tables():
    assert is_corrupted({"customers", "orders"})
    assert not is_corrupted(set())
    assert not is_corrupted({"customers", "users"})
    assert not is_corrupted({"customers", "alembic_version"})


def test_the_scheduler_stops_old_timers_and_marks_late_invoices(app, session, make):
    user_id, project_id = make.user(), make.project()
    make.entry(user_id, project_id)
    long_ago = utc_now() - timedelta(days=40)
    invoice = Invoice(
        number="INV-1",
        client_id=make.client(),
        issue_date=long_ago.date(),
        due_date=(long_ago + timedelta(days=30)).date(),
        status="sent",
    )
    timer = TimeEntry(user_id=user_id, project_id=project_id, start_time=long_ago)
    session.add_all([invoice, timer])
    session.commit()

    Scheduler(app, interval_seconds=3600).run_once()

    session.expire_all()
    assert invoice.status == "overdue"
    assert timer.duration_seconds == 86400
