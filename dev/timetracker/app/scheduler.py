"""The in-process scheduler: one thread in every server process, without any lock.

Two replicas therefore run every job twice. That is how TimeTracker behaves and why one
replica is its honest topology.
"""

import threading
from collections.abc import Callable
from datetime import timedelta

from flask import Flask
from sqlalchemy import select

from app.durations import utc_now
from app.extensions import db
from app.models import Invoice, TimeEntry

LONGEST_TIMER = timedelta(hours=24)


def mark_overdue_invoices() -> int:
    """Sent invoices past their due date become overdue; returns how many."""
    late = db.session.scalars(
        select(Invoice).where(
            Invoice.status == "sent", Invoice.due_date < utc_now().date()
        )
    ).all()
    for invoice in late:
        invoice.status = "overdue"
    db.session.commit()
    return len(late)


def stop_forgotten_timers() -> int:
    """Timers older than a day are stopped at their limit; returns how many."""
    forgotten = db.session.scalars(
        select(TimeEntry).where(
            TimeEntry.end_time.is_(None),
            TimeEntry.start_time < utc_now() - LONGEST_TIMER,
        )
    ).all()
    for entry in forgotten:
        entry.stop(entry.start_time + LONGEST_TIMER)
    db.session.commit()
    return len(forgotten)


JOBS: tuple[Callable[[], int], ...] = (mark_overdue_invoices, stop_forgotten_timers)


class Scheduler:
    """Runs all jobs once per interval until it is stopped."""

    def __init__(self, app: Flask, interval_seconds: float) -> None:
        self._app = app
        self._interval_seconds = interval_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="timetracker-scheduler", daemon=True
        )

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Starts the thread; the first jobs run after one interval."""
        self._thread.start()
        self._app.logger.info("scheduler started with %d jobs", len(JOBS))

    def stop(self) -> None:
        """Stops the thread and waits for the job that runs."""
        self._stopped.set()
        self._thread.join()

    def run_once(self) -> None:
        """Runs every job; one that fails does not keep the others from running."""
        for job in JOBS:
            with self._app.app_context():
                try:
                    job()
                except Exception:
                    db.session.rollback()
                    self._app.logger.exception("scheduled job %s failed", job.__name__)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_seconds):
            self.run_once()
