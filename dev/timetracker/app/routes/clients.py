"""Clients."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_login import login_required
from sqlalchemy import or_, select

from app.access import get_or_404, manager_required
from app.conflicts import commit_unless_taken
from app.extensions import db
from app.forms import ActionForm, ClientForm
from app.models import Client

blueprint = Blueprint("clients", __name__, url_prefix="/clients")


@blueprint.get("")
@login_required
def index():
    """The clients, those that contain ``q`` when it is given."""
    query = select(Client).order_by(Client.name)
    wanted = request.args.get("q", "").strip()
    if wanted:
        query = query.where(
            or_(
                Client.name.icontains(wanted, autoescape=True),
                Client.contact.icontains(wanted, autoescape=True),
            )
        )
    found = db.session.scalars(query).all()
    return render_template(
        "clients.html", clients=found, q=wanted, form=ClientForm(), action=ActionForm()
    )


@blueprint.post("")
@manager_required
def create():
    """A new client."""
    return _save(Client())


@blueprint.route("/<int:client_id>", methods=["GET", "POST"])
@manager_required
def edit(client_id: int):
    """Shows and changes one client."""
    client = get_or_404(Client, client_id)
    if request.method == "POST":
        return _save(client)
    return render_template("client.html", client=client, form=ClientForm(obj=client))


@blueprint.post("/<int:client_id>/archive")
@manager_required
def archive(client_id: int):
    """Archives a client; its data stays."""
    client = get_or_404(Client, client_id)
    if ActionForm().validate_on_submit():
        client.is_archived = True
        db.session.commit()
    return redirect(url_for("clients.index"))


def _save(client: Client):
    form = ClientForm()
    if not form.validate_on_submit():
        return render_template("client.html", client=client, form=form), 422
    form.populate_obj(client)
    db.session.add(client)
    if not commit_unless_taken():
        form.name.errors = ["there is a client of that name"]
        return render_template("client.html", client=None, form=form), 409
    flash("Client saved.", "info")
    return redirect(url_for("clients.index"))
