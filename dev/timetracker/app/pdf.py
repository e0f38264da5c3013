"""Invoices as PDF."""

from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import escape  # nosec B406

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.platypus import Image, Paragraph, SimpleDocTemplate, Spacer, Table

from app.models import Invoice, Settings
from app.money import format_money


def invoice_pdf(invoice: Invoice, settings: Settings, upload_folder: Path) -> bytes:
    """The invoice as one PDF file, with the company's logo when there is one."""
    styles = getSampleStyleSheet()
    story = [*_logo(settings, upload_folder)]
    story += [
        Paragraph(escape(settings.company_name), styles["Title"]),
        Paragraph(f"Invoice {escape(invoice.number)}", styles["Heading2"]),
        Paragraph(escape(invoice.client.name), styles["Normal"]),
        Paragraph(escape(invoice.client.address or ""), styles["Normal"]),
        Paragraph(
            f"Issued {invoice.issue_date.isoformat()}, "
            f"due {invoice.due_date.isoformat()}",
            styles["Normal"],
        ),
        Spacer(0, 8 * mm),
        _items(invoice, settings.currency, styles["Normal"]),
    ]
    target = BytesIO()
    document = SimpleDocTemplate(
        target, pagesize=A4, title=f"Invoice {invoice.number}", pageCompression=0
    )
    document.build(story)
    return target.getvalue()


def _logo(settings: Settings, upload_folder: Path) -> list[Image]:
    if not settings.logo_filename:
        return []
    path = upload_folder / settings.logo_filename
    return [Image(path, width=30 * mm, height=30 * mm)] if path.is_file() else []


def _items(invoice: Invoice, currency: str, style) -> Table:
    rows = [["Description", "Hours", "Price", "Amount"]]
    rows += [
        [
            Paragraph(escape(item.description), style),
            f"{item.quantity:.2f}",
            format_money(item.unit_price),
            format_money(item.amount),
        ]
        for item in invoice.items
    ]
    rows += [
        ["Subtotal", "", "", format_money(invoice.subtotal, currency)],
        [f"Tax {invoice.tax_rate:.2f} %", "", "", format_money(invoice.tax_amount)],
        ["Total", "", "", format_money(invoice.total, currency)],
    ]
    table = Table(rows, colWidths=[90 * mm, 20 * mm, 25 * mm, 35 * mm])
    table.setStyle(
        [
            ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
            ("LINEBELOW", (0, 0), (-1, 0), 0.5, colors.black),
            ("LINEABOVE", (0, -3), (-1, -3), 0.5, colors.black),
        ]
    )
    return table
