"""Who gets into the console, and who does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pyotp
import pytest
import websockets

from mailer.database.engine import Database
from tests.console.conftest import AGENT, CONFIG, Running, started
from tests.end_to_end.newsletter import Folder

PAGES = (
    "/",
    "/issues",
    "/subscribers",
    "/bounces",
    "/settings",
    "/audit",
    "/settings/access",
    "/settings/passkeys",
    "/export.csv",
    "/links.csv?issue=001-short",
    "/people.csv?issue=001-short&group=sent",
    "/frame/x",
    "/_nicegui_ws/socket.io/",
    "/docs",
)
PASSWORD = "correct horse battery"


def socket_answer(console: Running, cookies: str, **headers: str) -> int:
    """Return the status with which a websocket is answered: 101 if it opens."""

    async def attempt() -> int:
        url = f"ws://127.0.0.1:{console.port}/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
        sent = {"cookie": cookies, "user-agent": AGENT, **headers}
        try:
            async with websockets.connect(url, additional_headers=sent, user_agent_header=None):
                return 101
        except websockets.InvalidStatus as refused:
            return refused.response.status_code

    return asyncio.run(attempt())


def cookies_of(client: httpx.Client) -> str:
    return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_shown_without_a_session(console: Running, path: str) -> None:
    with console.anyone() as client:
        answer = client.get(path)
        assert answer.status_code in (303, 401)
        assert answer.headers.get("location", "/login") == "/login"
        client.cookies.set(f"mailer-{console.port}", "x" * 43)
        assert client.get(path).status_code in (303, 401)


def test_link_works_once_and_its_cookie_is_strict(console: Running) -> None:
    link = console.folder.mailer("console", "--link", "--port", str(console.port)).out.strip()
    with console.anyone() as first, console.anyone() as second:
        answer = first.get(link)
        assert "httponly" in answer.headers["set-cookie"].lower()
        assert "samesite=strict" in answer.headers["set-cookie"].lower()
        assert first.get("/").status_code == 200
        assert second.get(link).status_code == 403
        assert second.get("/").status_code == 303


def test_session_that_was_planted_before_the_login_is_not_used(console: Running) -> None:
    with console.anyone() as client:
        name = f"mailer-{console.port}"
        client.cookies.set(name, "planted", domain="127.0.0.1")
        answer = client.get(console.link())
        assert f"{name}=planted" not in answer.headers["set-cookie"]
        with console.anyone() as planter:
            planter.cookies.set(name, "planted")
            assert planter.get("/").status_code == 303


def test_stolen_cookie_is_useless_in_another_browser_and_after_the_logout(console: Running) -> None:
    with console.client() as client:
        stolen = {"cookie": cookies_of(client)}
        with console.anyone(**stolen) as thief:
            assert thief.get("/").status_code == 200
            assert thief.get("/", headers={"user-agent": "another"}).status_code == 303
            assert client.post("/logout", headers={"origin": console.url}).status_code == 303
            assert thief.get("/").status_code == 303
            assert socket_answer(console, stolen["cookie"], origin=console.url) == 403


def test_websocket_opens_for_our_own_pages_only(console: Running) -> None:
    with console.client() as client:
        ours = cookies_of(client)
        assert socket_answer(console, ours, origin=console.url) == 101
        assert socket_answer(console, ours, origin="https://evil.example") == 403
        assert socket_answer(console, ours, origin="null") == 403
        assert socket_answer(console, ours) == 403
        assert socket_answer(console, "", origin=console.url) == 403


def test_other_host_names_and_origins_are_refused(console: Running) -> None:
    with console.client() as client:
        assert client.get("/", headers={"host": f"evil.example:{console.port}"}).status_code == 421
        assert client.get("/", headers={"host": f"127.0.0.1.evil.example:{console.port}"}).status_code == 421
        assert client.post("/logout", headers={"origin": "https://evil.example"}).status_code == 403
        assert client.post("/logout").status_code == 403
        assert client.get("/").status_code == 200


def test_pages_load_nothing_from_other_hosts(console: Running) -> None:
    with console.client() as client:
        answer = client.get("/")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "http" not in policy
        assert answer.headers["cache-control"] == "no-store"


def test_users_log_in_with_password_and_code(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "news", CONFIG + '[console]\npublic_url = "https://console.example.org"\n')
    (tmp_path / "password").write_text(f"{PASSWORD}\n", encoding="utf-8")
    arguments = ("--role", "editor", "--json", "--password-file", str(tmp_path / "password"))
    added = folder.mailer("users", "add", "Mia", *arguments)
    code = pyotp.TOTP(added.json["totp_secret"])
    with started(folder, "--no-worker") as console:
        public = {"host": "console.example.org", "origin": "https://console.example.org"}

        def attempt(name: str = "Mia", password: str = PASSWORD, digits: str = "") -> httpx.Response:
            with console.anyone(**public) as client:
                form = {"name": name, "password": password, "code": digits or code.now()}
                return client.post("/login", data=form)

        assert attempt(password="wrong horse battery").status_code == 403
        assert attempt(digits="12").status_code == 403
        used = code.now()
        entered = attempt(digits=used)
        cookie = entered.headers["set-cookie"]
        assert cookie.startswith("__Host-mailer=")
        assert "Secure" in cookie
        secret = cookie.split(";")[0]
        with console.anyone(**public, cookie=secret) as mia:
            page = mia.get("/").text
            assert "Mia" in page
            assert "editor" in page
            # The same code does not work a second time, and guessing soon ends.
            assert attempt(digits=used).status_code == 403
            assert attempt("Nobody").status_code == 403
            assert 429 in [attempt(digits=used).status_code for _ in range(6)]
            assert folder.mailer("users", "remove", "Mia", "--yes").code == 0
            assert mia.get("/").status_code == 303
    with (
        Database("sqlite:///subscribers.db", folder=folder.path) as database,
        database.reading() as connection,
    ):
        from mailer.console.audit import entries

        assert [(one.who, one.act, one.about) for one in entries(connection)] == [
            ("this machine", "user.remove", "Mia"),
            ("Mia", "login", ""),
            ("this machine", "user.add", "Mia"),
        ]


def test_body_is_limited_before_the_login(console: Running) -> None:
    with console.anyone(origin=console.url) as client:
        large = client.post("/login", data={"name": "x" * 20_000, "password": "", "code": ""})
        assert large.status_code == 413
        small = client.post("/login", data={"name": "x" * 2_000, "password": "", "code": ""})
        assert small.status_code == 403


def test_passkey_needs_a_challenge_that_is_open_and_a_credential_that_is_known(console: Running) -> None:
    with console.anyone(origin=console.url) as client:

        def attempt(body: object) -> tuple[int, str]:
            answer = client.post("/login/passkey", json=body)
            return answer.status_code, answer.text

        begun = client.post("/login/passkey/options", json={}).json()
        credential = {"id": "AA", "rawId": "AA", "type": "public-key", "response": {}}
        broken: list[object] = [[], "x", {}, {"challenge": 1}, {"challenge": "x"}]
        for body in broken:
            assert attempt(body) == (400, "This is no passkey.")
        late = (403, "This took too long. Try again.")
        assert attempt({"challenge": "x", "credential": credential}) == late
        with_it = {"challenge": begun["challenge"], "credential": credential}
        assert attempt(with_it) == (403, "This passkey is not known here.")
        assert attempt(with_it) == late
        assert client.get("/").status_code == 303
    with console.anyone() as client:
        assert client.post("/login/passkey", json={}).status_code == 403
