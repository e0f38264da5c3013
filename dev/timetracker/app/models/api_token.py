"""Tokens for the JSON API; only their hash is stored."""

import hashlib
import secrets
from datetime import datetime

from sqlalchemy import Boolean, DateTime, ForeignKey, String, false, func, select
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.durations import utc_now
from app.extensions import db


class ApiToken(db.Model):
    """A token that acts for its user."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(String(100))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    revoked: Mapped[bool] = mapped_column(
        Boolean, default=False, server_default=false()
    )
    created_at: Mapped[datetime] = mapped_column(
        DateTime, default=utc_now, server_default=func.now()
    )
    last_used_at: Mapped[datetime | None] = mapped_column(DateTime)

    user = relationship("User", back_populates="api_tokens")

    @staticmethod
    def hash_of(token: str) -> str:
        """What is stored of a token."""
        return hashlib.sha256(token.encode()).hexdigest()

    @classmethod
    def issue(cls, user_id: int, name: str) -> "tuple[ApiToken, str]":
        """A new token and its text, which is shown only once."""
        token = "tt_" + secrets.token_urlsafe(32)
        row = cls(user_id=user_id, name=name, token_hash=cls.hash_of(token))
        db.session.add(row)
        return row, token

    @classmethod
    def find(cls, token: str) -> "ApiToken | None":
        """The token that is valid and whose user is active."""
        row = db.session.scalar(
            select(cls).where(
                cls.token_hash == cls.hash_of(token), cls.revoked.is_(False)
            )
        )
        return row if row is not None and row.user.is_active else None
