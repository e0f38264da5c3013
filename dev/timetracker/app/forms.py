"""The forms; Flask-WTF gives each of them its CSRF token."""

from flask_wtf import FlaskForm
from flask_wtf.file import FileAllowed, FileField
from wtforms import (
    BooleanField,
    DateTimeLocalField,
    DecimalField,
    EmailField,
    IntegerField,
    PasswordField,
    SelectField,
    StringField,
    TextAreaField,
)
from wtforms.validators import (
    DataRequired,
    InputRequired,
    Length,
    NumberRange,
    Optional,
    Regexp,
    ValidationError,
)

from app.models import Role
from app.models.task import TaskStatus
from app.models.user import MINIMUM_PASSWORD_LENGTH


def _empty_to_none(value: str | None) -> str | None:
    return value.strip() or None if value else None


class LoginForm(FlaskForm):
    """Name and password."""

    username = StringField(validators=[DataRequired(), Length(max=80)])
    password = PasswordField(validators=[DataRequired(), Length(max=200)])


class RegisterForm(FlaskForm):
    """A new account."""

    username = StringField(
        validators=[
            DataRequired(),
            Length(max=80),
            Regexp(r"^[\w.@+-]+\Z", message="letters, digits and . @ + - _ only"),
        ]
    )
    password = PasswordField(
        validators=[DataRequired(), Length(min=MINIMUM_PASSWORD_LENGTH, max=200)]
    )


class ClientForm(FlaskForm):
    """A client."""

    name = StringField(validators=[DataRequired(), Length(max=200)])
    email = EmailField(
        filters=[_empty_to_none], validators=[Optional(), Length(max=200)]
    )
    contact = StringField(
        filters=[_empty_to_none], validators=[Optional(), Length(max=200)]
    )
    address = TextAreaField(filters=[_empty_to_none], validators=[Optional()])
    hourly_rate = DecimalField(validators=[Optional(), NumberRange(min=0)])


class ProjectForm(FlaskForm):
    """A project; the choices of clients are set by the view."""

    client_id = SelectField("Client", coerce=int)
    name = StringField(validators=[DataRequired(), Length(max=200)])
    description = TextAreaField(filters=[_empty_to_none], validators=[Optional()])
    hourly_rate = DecimalField(validators=[Optional(), NumberRange(min=0)])
    budget_hours = DecimalField(validators=[Optional(), NumberRange(min=0)])
    billable = BooleanField(default=True)


class TaskForm(FlaskForm):
    """A task of a project."""

    name = StringField(validators=[DataRequired(), Length(max=200)])
    description = TextAreaField(filters=[_empty_to_none], validators=[Optional()])
    status = SelectField(
        choices=[(status.value, status.value) for status in TaskStatus],
        default=TaskStatus.TODO.value,
    )


class TimerForm(FlaskForm):
    """Start a timer; the choices of projects are set by the view."""

    project_id = SelectField("Project", coerce=int)
    notes = TextAreaField(validators=[Optional(), Length(max=2000)])


class TimeEntryForm(FlaskForm):
    """An entry by hand, in UTC."""

    project_id = SelectField("Project", coerce=int)
    start_time = DateTimeLocalField("Start (UTC)", validators=[InputRequired()])
    end_time = DateTimeLocalField("End (UTC)", validators=[InputRequired()])
    notes = TextAreaField(filters=[_empty_to_none], validators=[Optional()])
    billable = BooleanField(default=True)

    def validate_end_time(self, field: DateTimeLocalField) -> None:
        """An entry ends after its start."""
        if self.start_time.data and field.data and field.data < self.start_time.data:
            raise ValidationError("an entry ends after its start")


class SettingsForm(FlaskForm):
    """Company, currency, rounding, invoicing, logo."""

    company_name = StringField(validators=[DataRequired(), Length(max=200)])
    currency = StringField(validators=[DataRequired(), Regexp(r"^[A-Z]{3}\Z")])
    timezone = StringField(validators=[DataRequired(), Length(max=50)])
    rounding_minutes = IntegerField(
        validators=[InputRequired(), NumberRange(min=0, max=60)]
    )
    tax_rate = DecimalField(validators=[InputRequired(), NumberRange(min=0, max=100)])
    invoice_prefix = StringField(
        validators=[DataRequired(), Regexp(r"^[A-Za-z0-9]{1,20}\Z")]
    )
    logo = FileField(validators=[Optional(), FileAllowed(["png"], "PNG only")])


class RoleForm(FlaskForm):
    """What a user may do."""

    role = SelectField(choices=[(role.value, role.value) for role in Role])


class ActionForm(FlaskForm):
    """A button: nothing but the CSRF token."""
