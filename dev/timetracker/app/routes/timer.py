"""The timer and entries by hand."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask_login import current_user, login_required
from sqlalchemy import select

from app.access import owned_or_404
from app.conflicts import commit_unless_taken
from app.extensions import db
from app.forms import ActionForm, TimeEntryForm, TimerForm
from app.models import TimeEntry
from app.routes.choices import project_choices

blueprint = Blueprint("timer", __name__)


@blueprint.post("/timer/start")
@login_required
def start():
    """Starts a timer and stops the one that runs."""
    form = TimerForm()
    form.project_id.choices = project_choices()
    if not form.validate_on_submit():
        return render_template("error.html", message="This project is not open."), 422
    TimeEntry.start_timer(
        current_user.id, form.project_id.data, notes=form.notes.data or ""
    )
    if not commit_unless_taken():
        flash("A timer was started elsewhere.", "error")
    return redirect(url_for("main.index"))


@blueprint.post("/timer/stop")
@login_required
def stop():
    """Stops the running timer."""
    if ActionForm().validate_on_submit():
        running = TimeEntry.running_for(current_user.id)
        if running is None:
            flash("No timer runs.", "error")
        else:
            running.stop()
            db.session.commit()
    return redirect(url_for("main.index"))


@blueprint.route("/entries", methods=["GET", "POST"])
@login_required
def entries():
    """The user's entries; POST adds one."""
    form = TimeEntryForm()
    form.project_id.choices = project_choices()
    status = 200
    if form.is_submitted():
        if form.validate():
            entry = TimeEntry(
                user_id=current_user.id,
                project_id=form.project_id.data,
                start_time=form.start_time.data,
                notes=form.notes.data,
                billable=form.billable.data,
            )
            entry.stop(form.end_time.data)
            db.session.add(entry)
            db.session.commit()
            return redirect(url_for("timer.entries"))
        status = 422
    own = db.session.scalars(
        select(TimeEntry)
        .where(TimeEntry.user_id == current_user.id)
        .order_by(TimeEntry.start_time.desc())
    ).all()
    page = render_template("entries.html", entries=own, form=form, action=ActionForm())
    return page, status


@blueprint.post("/entries/<int:entry_id>/delete")
@login_required
def delete(entry_id: int):
    """Deletes an entry that is on no invoice."""
    entry = owned_or_404(TimeEntry, entry_id, current_user)
    if entry.invoice_id is not None:
        return render_template("error.html", message="This entry is billed."), 409
    if ActionForm().validate_on_submit():
        db.session.delete(entry)
        db.session.commit()
    return redirect(url_for("timer.entries"))
