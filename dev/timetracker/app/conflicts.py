"""Which refusals of the database are the user's to solve."""

from sqlalchemy.exc import IntegrityError

from app.extensions import db

UNIQUE_VIOLATION = "23505"


def commit_unless_taken() -> bool:
    """Commits; False when a unique rule refused it. Any other refusal is an error."""
    try:
        db.session.commit()
    except IntegrityError as error:
        db.session.rollback()
        code = getattr(error.orig, "pgcode", None)
        if code == UNIQUE_VIOLATION or "UNIQUE constraint" in str(error.orig):
            return False
        raise
    return True
