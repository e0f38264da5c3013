"""Users and their roles."""

from datetime import datetime
from enum import Enum

from flask import current_app
from flask_login import UserMixin
from sqlalchemy import Boolean, DateTime, String, func, select, true
from sqlalchemy.orm import Mapped, mapped_column, relationship
from werkzeug.security import check_password_hash, generate_password_hash

from app.durations import utc_now
from app.extensions import db, login_manager

MINIMUM_PASSWORD_LENGTH = 8


class Role(str, Enum):
    """What a user may do: each role may do what those before it may."""

    USER = "user"
    MANAGER = "manager"
    ADMIN = "admin"


class User(UserMixin, db.Model):
    """Somebody who tracks time."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(80), unique=True)
    email: Mapped[str | None] = mapped_column(String(200))
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(
        String(20), default=Role.USER.value, server_default=Role.USER.value
    )
    is_active: Mapped[bool] = mapped_column(
        Boolean, default=True, server_default=true()
    )
    created_at: Mapped[datetime] = mapped_column(
        DateTime, default=utc_now, server_default=func.now()
    )
    last_login: Mapped[datetime | None] = mapped_column(DateTime)

    time_entries = relationship(
        "TimeEntry", back_populates="user", cascade="all, delete-orphan"
    )
    api_tokens = relationship(
        "ApiToken", back_populates="user", cascade="all, delete-orphan"
    )

    def set_password(self, password: str) -> None:
        """Stores the hash of a password that is long enough."""
        if len(password) < MINIMUM_PASSWORD_LENGTH:
            raise ValueError(
                f"a password has at least {MINIMUM_PASSWORD_LENGTH} characters"
            )
        self.password_hash = generate_password_hash(
            password, method=current_app.config["PASSWORD_HASH_METHOD"]
        )

    def check_password(self, password: str) -> bool:
        """Whether this is the user's password."""
        return check_password_hash(self.password_hash, password)

    @property
    def is_admin(self) -> bool:
        """May change settings and users."""
        return self.role == Role.ADMIN.value

    @property
    def is_manager(self) -> bool:
        """May change clients, projects and invoices."""
        return self.role in {Role.MANAGER.value, Role.ADMIN.value}

    @classmethod
    def by_username(cls, username: str) -> "User | None":
        """The user of that name, whatever its case."""
        return db.session.scalar(
            select(cls).where(func.lower(cls.username) == username.strip().lower())
        )


@login_manager.user_loader
def load_user(user_id: str) -> User | None:
    """The user of a session cookie; a deactivated one is nobody."""
    user = db.session.get(User, int(user_id)) if user_id.isdigit() else None
    return user if user is not None and user.is_active else None
