"""Who one is."""

import pytest

from tests.conftest import PASSWORD

pytestmark = [pytest.mark.security, pytest.mark.authentication]


def test_a_wrong_name_and_a_wrong_password_look_the_same(client, make):
    make.user("ute")
    answers = [
        client.post("/login", data={"username": name, "password": word})
        for name, word in (("ute", "wrong password"), ("nobody", PASSWORD))
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert all("Wrong name or password." in answer.text for answer in answers)


def test_every_page_but_the_public_ones_needs_a_login(app, client):
    public = {
        *("main.index", "main.health", "main.ready", "static"),
        *("auth.login", "auth.register", "api_v1.health", "api_v1.version"),
    }
    for rule in app.url_map.iter_rules():
        if rule.endpoint in public:
            continue
        path = rule.rule.replace("<int:", "<").replace("<status>", "sent")
        path = "/".join("1" if "<" in part else part for part in path.split("/"))
        method = "GET" if "GET" in rule.methods else sorted(rule.methods)[-1]
        answer = client.open(path, method=method)
        refused = answer.status_code == 401 or "/login" in (answer.location or "")
        assert refused, f"{method} {path} answered {answer.status_code}"


def test_a_forged_session_cookie_is_nobody(client, make):
    user_id = make.user("ute")
    from flask.sessions import SecureCookieSessionInterface
    from itsdangerous import URLSafeTimedSerializer

    forged = URLSafeTimedSerializer(
        "another key", salt=SecureCookieSessionInterface.salt
    ).dumps({"_user_id": str(user_id), "_fresh": True})
    client.set_cookie("session", forged)
    assert client.get("/projects").status_code == 302


def test_the_session_cookie_is_closed_to_scripts_and_foreign_sites(app, client, make):
    make.user("ute")
    app.config["SESSION_COOKIE_SECURE"] = True
    answer = client.post(
        "/login",
        data={"username": "ute", "password": PASSWORD},
        base_url="https://localhost",
    )
    cookie = answer.headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Lax", "Secure"))


def test_login_never_leads_to_another_site(client, make):
    make.user("ute")
    answer = client.post(
        "/login?next=https://evil.test/",
        data={"username": "ute", "password": PASSWORD},
    )
    assert answer.location == "/"
