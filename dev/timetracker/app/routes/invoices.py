"""Invoices and their PDF."""

from pathlib import Path

from flask import Blueprint, Response, current_app, redirect, render_template, url_for
from flask_login import current_user
from sqlalchemy import select

from app.access import get_or_404, manager_required
from app.extensions import db
from app.forms import ActionForm
from app.models import Invoice, Project, Settings
from app.pdf import invoice_pdf

blueprint = Blueprint("invoices", __name__, url_prefix="/invoices")


@blueprint.get("")
@manager_required
def index():
    """All invoices, the newest first."""
    invoices = db.session.scalars(select(Invoice).order_by(Invoice.id.desc())).all()
    return render_template(
        "invoices.html", invoices=invoices, currency=Settings.get().currency
    )


@blueprint.post("/from-project/<int:project_id>")
@manager_required
def create(project_id: int):
    """Bills all open time of a project."""
    project = get_or_404(Project, project_id)
    if not ActionForm().validate_on_submit():
        return redirect(url_for("projects.show", project_id=project_id))
    try:
        invoice = Invoice.from_project(project, current_user.id)
    except ValueError as error:
        return render_template("error.html", message=str(error)), 409
    db.session.commit()
    return redirect(url_for("invoices.show", invoice_id=invoice.id))


@blueprint.get("/<int:invoice_id>")
@manager_required
def show(invoice_id: int):
    """One invoice."""
    return render_template(
        "invoice.html",
        invoice=get_or_404(Invoice, invoice_id),
        currency=Settings.get().currency,
        action=ActionForm(),
    )


@blueprint.post("/<int:invoice_id>/<status>")
@manager_required
def move(invoice_id: int, status: str):
    """Moves an invoice on: sent, paid, overdue."""
    invoice = get_or_404(Invoice, invoice_id)
    if ActionForm().validate_on_submit():
        try:
            invoice.move_to(status)
        except ValueError as error:
            return render_template("error.html", message=str(error)), 409
        db.session.commit()
    return redirect(url_for("invoices.show", invoice_id=invoice_id))


@blueprint.get("/<int:invoice_id>/pdf")
@manager_required
def pdf(invoice_id: int):
    """The invoice as PDF."""
    invoice = get_or_404(Invoice, invoice_id)
    content = invoice_pdf(
        invoice, Settings.get(), Path(current_app.config["UPLOAD_FOLDER"])
    )
    return Response(
        content,
        mimetype="application/pdf",
        headers={"Content-Disposition": f'attachment; filename="{invoice.number}.pdf"'},
    )
