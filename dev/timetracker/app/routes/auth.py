"""Login, logout, registration."""

from flask import Blueprint, abort, current_app, flash, redirect, render_template
from flask import request, url_for
from flask_login import current_user, login_required, login_user, logout_user

from app.access import is_local_path
from app.conflicts import commit_unless_taken
from app.durations import utc_now
from app.extensions import db
from app.forms import ActionForm, LoginForm, RegisterForm
from app.models import Role, User

blueprint = Blueprint("auth", __name__)


@blueprint.route("/login", methods=["GET", "POST"])
def login():
    """Asks for name and password; says the same whatever of them is wrong."""
    if current_user.is_authenticated:
        return redirect(url_for("main.index"))
    form = LoginForm()
    if form.validate_on_submit():
        user = User.by_username(form.username.data)
        if user and user.is_active and user.check_password(form.password.data):
            user.last_login = utc_now()
            db.session.commit()
            login_user(user)
            target = request.args.get("next")
            return redirect(target if is_local_path(target) else url_for("main.index"))
        flash("Wrong name or password.", "error")
        return render_template("login.html", form=form), 401
    return render_template("login.html", form=form)


@blueprint.post("/logout")
@login_required
def logout():
    """Ends the session; POST only, so that no foreign page can do it."""
    if ActionForm().validate_on_submit():
        logout_user()
    return redirect(url_for("main.index"))


@blueprint.route("/register", methods=["GET", "POST"])
def register():
    """Creates an account; names in ADMIN_USERNAMES become admins."""
    if not current_app.config["ALLOW_SELF_REGISTER"]:
        abort(404)
    form = RegisterForm()
    if form.validate_on_submit():
        name = form.username.data
        if User.by_username(name) is not None:
            form.username.errors = ["this name is taken"]
            return render_template("register.html", form=form), 409
        is_admin = name.lower() in current_app.config["ADMIN_USERNAMES"]
        role = Role.ADMIN if is_admin else Role.USER
        user = User(username=name, role=role.value)
        user.set_password(form.password.data)
        db.session.add(user)
        if not commit_unless_taken():
            form.username.errors = ["this name is taken"]
            return render_template("register.html", form=form), 409
        login_user(user)
        return redirect(url_for("main.index"))
    return render_template("register.html", form=form)
