"""Text stays text."""

import pytest

from tests.conftest import PASSWORD

pytestmark = [pytest.mark.security, pytest.mark.xss]
SCRIPT = "<script>alert(1)</script>"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"


@pytest.mark.parametrize("path", ["/clients", "/projects"])
def test_names_are_escaped_in_lists(as_user, make, path):
    make.project(make.client(SCRIPT), name=SCRIPT)
    page = as_user.get(path).text
    assert ESCAPED in page
    assert SCRIPT not in page


def test_a_search_word_is_escaped(as_user):
    page = as_user.get("/clients", query_string={"q": f'">{SCRIPT}'}).text
    assert ESCAPED in page
    assert SCRIPT not in page


def test_a_script_in_a_description_does_not_break_the_pdf(as_manager, make):
    project_id = make.project(hourly_rate=10)
    make.entry(make.user(), project_id, notes=f"<b>{SCRIPT}")
    location = as_manager.post(f"/invoices/from-project/{project_id}").location
    assert SCRIPT not in as_manager.get(location).text
    assert as_manager.get(f"{location}/pdf").data.startswith(b"%PDF-")


def test_the_browser_is_told_to_run_no_foreign_scripts(client, make):
    make.user("ute")
    pages = [
        client.get("/"),
        client.post("/login", data={"username": "ute", "password": PASSWORD}),
        client.get("/api/v1/me"),
    ]
    for page in pages:
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["X-Frame-Options"] == "DENY"
