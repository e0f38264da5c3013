"""Who may do what."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from flask import abort
from flask_login import current_user, login_required

from app.extensions import db


def manager_required(view: Callable[..., Any]) -> Callable[..., Any]:
    """Only managers and admins; everybody else gets 403."""
    return _role_required(view, "is_manager")


def admin_required(view: Callable[..., Any]) -> Callable[..., Any]:
    """Only admins; everybody else gets 403."""
    return _role_required(view, "is_admin")


def _role_required(view: Callable[..., Any], attribute: str) -> Callable[..., Any]:
    @wraps(view)
    @login_required
    def checked(*args: Any, **kwargs: Any) -> Any:
        if not getattr(current_user, attribute):
            abort(403)
        return view(*args, **kwargs)

    return checked


def get_or_404(model: type, identifier: int) -> Any:
    """The row, or 404."""
    row = db.session.get(model, identifier)
    if row is None:
        abort(404)
    return row


def owned_or_404(model: type, identifier: int, user: Any) -> Any:
    """A row of this user (managers see all); others' rows don't exist for them."""
    row = get_or_404(model, identifier)
    if row.user_id != user.id and not user.is_manager:
        abort(404)
    return row


def is_local_path(target: str | None) -> bool:
    """Whether a redirect there stays on this site."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")):
        return False
    parts = urlsplit(target)
    return not parts.scheme and not parts.netloc
