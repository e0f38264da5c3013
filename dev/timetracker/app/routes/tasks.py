"""Tasks of a project."""

from flask import Blueprint, redirect, render_template, url_for
from flask_login import login_required

from app.access import get_or_404
from app.extensions import db
from app.forms import ActionForm, TaskForm
from app.models import Project, Task

blueprint = Blueprint("tasks", __name__)


@blueprint.post("/projects/<int:project_id>/tasks")
@login_required
def create(project_id: int):
    """A new task."""
    project = get_or_404(Project, project_id)
    form = TaskForm()
    if not form.validate_on_submit():
        page = render_template(
            "project.html", project=project, task_form=form, action=ActionForm()
        )
        return page, 422
    task = Task(project_id=project.id)
    form.populate_obj(task)
    db.session.add(task)
    db.session.commit()
    return redirect(url_for("projects.show", project_id=project.id))


@blueprint.post("/tasks/<int:task_id>/<status>")
@login_required
def move(task_id: int, status: str):
    """Moves a task to another status."""
    task = get_or_404(Task, task_id)
    if ActionForm().validate_on_submit():
        try:
            task.move_to(status)
        except ValueError:
            return (
                render_template("error.html", message="There is no such status."),
                404,
            )
        db.session.commit()
    return redirect(url_for("projects.show", project_id=task.project_id))
