"""Settings of the installation, users' roles, a user's API tokens."""

from pathlib import Path

from flask import Blueprint, current_app, flash, redirect, render_template, request
from flask import url_for
from flask_login import current_user, login_required
from sqlalchemy import select

from app.access import admin_required, get_or_404, owned_or_404
from app.extensions import db
from app.forms import ActionForm, RoleForm, SettingsForm
from app.installation import read_installation, write_installation
from app.models import ApiToken, Settings, User

blueprint = Blueprint("settings", __name__, url_prefix="/settings")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
LOGO_FILENAME = "logo.png"


@blueprint.route("", methods=["GET", "POST"])
@admin_required
def index():
    """Shows and changes the settings; the first save completes the setup."""
    settings = Settings.get()
    form = SettingsForm(obj=settings)
    if not form.is_submitted():
        db.session.commit()
        return render_template("settings.html", form=form)
    if not form.validate():
        return render_template("settings.html", form=form), 422
    upload = form.logo.data
    if upload:
        content = upload.read()
        if not content.startswith(PNG_SIGNATURE):
            form.logo.errors = ["this is no PNG file"]
            return render_template("settings.html", form=form), 422
        folder = Path(current_app.config["UPLOAD_FOLDER"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOGO_FILENAME).write_bytes(content)
        settings.logo_filename = LOGO_FILENAME
    for name in (
        "company_name",
        "currency",
        "timezone",
        "rounding_minutes",
        "tax_rate",
        "invoice_prefix",
    ):
        setattr(settings, name, form[name].data)
    db.session.commit()
    write_installation(
        current_app, {**read_installation(current_app), "setup_complete": True}
    )
    flash("Settings saved.", "info")
    return redirect(url_for("settings.index"))


@blueprint.get("/users")
@admin_required
def users():
    """All users and their roles."""
    everybody = db.session.scalars(select(User).order_by(User.username)).all()
    return render_template(
        "users.html", users=everybody, form=RoleForm(), action=ActionForm()
    )


@blueprint.post("/users/<int:user_id>/role")
@admin_required
def change_role(user_id: int):
    """Gives a user a role; nobody takes it from themselves."""
    user = get_or_404(User, user_id)
    form = RoleForm()
    if not form.validate_on_submit():
        return render_template("error.html", message="There is no such role."), 422
    if user.id == current_user.id:
        return render_template("error.html", message="Ask another admin."), 409
    user.role = form.role.data
    db.session.commit()
    return redirect(url_for("settings.users"))


@blueprint.route("/tokens", methods=["GET", "POST"])
@login_required
def tokens():
    """The user's API tokens; POST issues one and shows it once."""
    issued = None
    if request.method == "POST" and ActionForm().validate_on_submit():
        name = request.form.get("name", "").strip()[:100] or "token"
        _, issued = ApiToken.issue(current_user.id, name)
        db.session.commit()
    own = db.session.scalars(
        select(ApiToken).where(ApiToken.user_id == current_user.id)
    ).all()
    return render_template(
        "tokens.html", tokens=own, issued=issued, action=ActionForm()
    )


@blueprint.post("/tokens/<int:token_id>/revoke")
@login_required
def revoke(token_id: int):
    """Makes a token worthless."""
    token = owned_or_404(ApiToken, token_id, current_user)
    if ActionForm().validate_on_submit():
        token.revoked = True
        db.session.commit()
    return redirect(url_for("settings.tokens"))
