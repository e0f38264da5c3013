"""From tracked time to a paid invoice."""

from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO

import pytest
from sqlalchemy import select

from app import db
from app.models import Invoice, Settings, TimeEntry

pytestmark = [pytest.mark.integration, pytest.mark.invoices]


@pytest.fixture
def project_id(make):
    return make.billed_project(make.user())


@pytest.fixture
def invoice_id(as_manager, project_id):
    location = as_manager.post(f"/invoices/from-project/{project_id}").location
    return int(location.rsplit("/", 1)[1])


def test_open_time_becomes_an_invoice(app, as_manager, invoice_id):
    with app.app_context():
        invoice = db.session.get(Invoice, invoice_id)
        assert [item.description for item in invoice.items] == ["design", "build"]
        assert invoice.total == Decimal("240.00")
        assert invoice.number == f"INV-{datetime.now(UTC).year}-0001"


def test_time_is_billed_only_once(as_manager, project_id, invoice_id):
    answer = as_manager.post(f"/invoices/from-project/{project_id}")
    assert answer.status_code == 409
    assert "no billable time" in answer.text


def test_time_that_is_not_billable_is_left_out(app, as_manager, make, project_id):
    make.entry(make.user(), project_id, hours=5, billable=False)
    as_manager.post(f"/invoices/from-project/{project_id}")
    with app.app_context():
        assert db.session.scalars(select(Invoice)).one().total == Decimal("240.00")


def test_settings_decide_on_tax_rounding_and_numbers(app, as_manager, project_id):
    with app.app_context():
        settings = Settings.get()
        settings.tax_rate = Decimal("22")
        settings.rounding_minutes = 60
        settings.invoice_prefix = "ACME"
        db.session.scalars(select(TimeEntry)).first().duration_seconds = 3601
        db.session.commit()
    as_manager.post(f"/invoices/from-project/{project_id}")
    with app.app_context():
        invoice = db.session.scalars(select(Invoice)).one()
        assert invoice.number.startswith("ACME-")
        assert invoice.subtotal == Decimal("320.00")
        assert invoice.total == Decimal("390.40")


def test_an_invoice_is_sent_and_paid_in_this_order(app, as_manager, invoice_id):
    assert as_manager.post(f"/invoices/{invoice_id}/paid").status_code == 409
    for status in ("sent", "paid"):
        as_manager.post(f"/invoices/{invoice_id}/{status}")
        assert status in as_manager.get(f"/invoices/{invoice_id}").text
    assert as_manager.post(f"/invoices/{invoice_id}/sent").status_code == 409


def test_the_pdf_holds_number_and_total(as_manager, invoice_id):
    answer = as_manager.get(f"/invoices/{invoice_id}/pdf")
    assert answer.mimetype == "application/pdf"
    assert answer.data.startswith(b"%PDF-")
    assert b"240.00 EUR" in pdf_text(answer.data)
    assert b"-0001" in pdf_text(answer.data)


def test_a_logo_is_kept_in_the_upload_folder_and_printed(
    app, as_admin, make, project_id, tmp_path
):
    data = {
        "company_name": "Ada & Co",
        "currency": "CHF",
        "timezone": "Europe/Zurich",
        "rounding_minutes": "1",
        "tax_rate": "0",
        "invoice_prefix": "INV",
    }
    wrong = {**data, "logo": (BytesIO(b"GIF89a"), "logo.png")}
    assert as_admin.post("/settings", data=wrong).status_code == 422
    right = {**data, "logo": (BytesIO(png()), "logo.png")}
    assert as_admin.post("/settings", data=right).status_code == 302
    assert (tmp_path / "uploads" / "logo.png").read_bytes() == png()
    assert '"setup_complete": true' in (tmp_path / "installation.json").read_text()
    location = as_admin.post(f"/invoices/from-project/{project_id}").location
    assert b"/Subtype /Image" in as_admin.get(f"{location}/pdf").data


def test_a_billed_entry_is_not_deleted(app, as_manager, invoice_id):
    with app.app_context():
        entry_id = db.session.scalars(select(TimeEntry.id)).first()
    assert as_manager.post(f"/entries/{entry_id}/delete").status_code == 409


def pdf_text(content):
    """The page's text operators; the PDF is written without compression."""
    import base64
    import re

    streams = re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL)
    return b"".join(
        base64.a85decode(s.strip(), adobe=False) if s.strip().endswith(b"~>") else s
        for s in (stream.strip().removesuffix(b"~>") for stream in streams)
    )


def png():
    import struct
    import zlib

    def chunk(kind, body):
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixel = chunk(b"IDAT", zlib.compress(b"\x00\x12\x34\x4d"))
    return b"\x89PNG\r\n\x1a\n" + header + pixel + chunk(b"IEND", b"")
