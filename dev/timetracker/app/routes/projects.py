"""Projects."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask_login import login_required
from sqlalchemy import select

from app.access import get_or_404, manager_required
from app.conflicts import commit_unless_taken
from app.extensions import db
from app.forms import ActionForm, ProjectForm, TaskForm
from app.models import Project
from app.routes.choices import client_choices

blueprint = Blueprint("projects", __name__, url_prefix="/projects")


@blueprint.get("")
@login_required
def index():
    """All projects and a form for a new one."""
    form = ProjectForm()
    form.client_id.choices = client_choices()
    projects = db.session.scalars(select(Project).order_by(Project.name)).all()
    return render_template("projects.html", projects=projects, form=form)


@blueprint.post("")
@manager_required
def create():
    """A new project."""
    form = ProjectForm()
    form.client_id.choices = client_choices()
    if not form.validate_on_submit():
        return render_template("projects.html", projects=[], form=form), 422
    project = Project()
    form.populate_obj(project)
    db.session.add(project)
    if not commit_unless_taken():
        form.name.errors = ["this client has a project of that name"]
        return render_template("projects.html", projects=[], form=form), 409
    return redirect(url_for("projects.show", project_id=project.id))


@blueprint.get("/<int:project_id>")
@login_required
def show(project_id: int):
    """One project with its tasks, time and budget."""
    return render_template(
        "project.html",
        project=get_or_404(Project, project_id),
        task_form=TaskForm(),
        action=ActionForm(),
    )


@blueprint.post("/<int:project_id>/close")
@manager_required
def close(project_id: int):
    """Closes a project: no more time can be tracked on it."""
    project = get_or_404(Project, project_id)
    if ActionForm().validate_on_submit():
        project.status = "closed"
        db.session.commit()
        flash("Project closed.", "info")
    return redirect(url_for("projects.show", project_id=project_id))
