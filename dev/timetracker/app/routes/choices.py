"""What select fields offer."""

from sqlalchemy import select

from app.extensions import db
from app.models import Client, Project


def project_choices() -> list[tuple[int, str]]:
    """The active projects with their client."""
    projects = db.session.scalars(
        select(Project)
        .join(Client)
        .where(Project.status == "active")
        .order_by(Client.name, Project.name)
    )
    return [(p.id, f"{p.client.name}: {p.name}") for p in projects]


def client_choices() -> list[tuple[int, str]]:
    """The clients that are not archived."""
    clients = db.session.scalars(
        select(Client).where(Client.is_archived.is_(False)).order_by(Client.name)
    )
    return [(client.id, client.name) for client in clients]
