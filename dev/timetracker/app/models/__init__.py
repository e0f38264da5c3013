"""All models: importing this package fills ``db.metadata``."""

from app.models.api_token import ApiToken
from app.models.client import Client
from app.models.invoice import Invoice, InvoiceItem
from app.models.project import Project
from app.models.settings import Settings
from app.models.task import Task
from app.models.time_entry import TimeEntry
from app.models.user import Role, User

__all__ = [
    "ApiToken",
    "Client",
    "Invoice",
    "InvoiceItem",
    "Project",
    "Role",
    "Settings",
    "Task",
    "TimeEntry",
    "User",
]
