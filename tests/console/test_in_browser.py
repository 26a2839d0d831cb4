"""The console in Chromium: an editor's whole job without a terminal, and attacks on it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, expect
from playwright.sync_api import Error as PlaywrightError
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from mailer.database.models import (
    ApiToken,
    AuditEntry,
    Consent,
    ConsoleUser,
    Delivery,
    Event,
    Import,
    StoredIssue,
    StoredReport,
    Subscriber,
    Suppression,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
)
from mailer.database.session import Database
from tests.conftest import PROJECT, missing
from tests.console.conftest import AGENT, PEOPLE, Running

pytestmark = [pytest.mark.servers, pytest.mark.slow]

_AXE = PROJECT / "tests" / "install" / "node" / "node_modules" / "axe-core" / "axe.min.js"
_RUN = """async () => (await axe.run(document, {iframes: false, resultTypes: ["violations"]})).violations.map(
    (found) => `${found.id}: ${found.nodes.map((node) => node.html.slice(0, 200)).join(" | ")}`)"""
EVIL = '<img src=x onerror="window.taken=1"><script>window.taken=1</script>{{7*7}}`${window.taken=1}`'
_SECONDS = 30_000
MANY = 100_000


@pytest.fixture(scope="module")
def state(browser: Browser, console: Running) -> StorageState:
    """The cookies of a person who opened the link."""
    context = browser.new_context(user_agent=AGENT)
    page = context.new_page()
    page.goto(console.link())
    expect(page.get_by_role("heading", name="Home")).to_be_visible(timeout=_SECONDS)
    found = context.storage_state()
    context.close()
    return found


def opened(browser: Browser, state: StorageState, width: int = 1280, scheme: str = "light") -> BrowserContext:
    """Return a context that is logged in."""
    context = browser.new_context(
        user_agent=AGENT,
        storage_state=state,
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        bypass_csp=True,
        accept_downloads=True,
    )
    context.set_default_timeout(_SECONDS)
    expect.set_options(timeout=_SECONDS)
    return context


@pytest.fixture
def page(browser: Browser, state: StorageState) -> Iterator[Page]:
    context = opened(browser, state)
    yield context.new_page()
    context.close()


def settled(page: Page) -> None:
    """Wait until the page's websocket is connected, so that its events arrive."""
    page.wait_for_function("window.socket && window.did_handshake")


def write(page: Page, text: str) -> None:
    """Replace the text in the editor."""
    page.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)


@pytest.mark.parametrize("width", [1280, 375])
def test_editor_needs_no_terminal(
    browser: Browser, state: StorageState, console: Running, width: int
) -> None:
    context = opened(browser, state, width)
    page = context.new_page()
    title = f"Seeds at {width}"
    page.goto(f"{console.url}/issues")
    settled(page)
    page.get_by_role("button", name="New issue").click()
    page.get_by_label("Title").fill(title)
    page.get_by_role("button", name="Create").click()
    page.wait_for_url(re.compile(rf"/issues/\d+-seeds-at-{width}$"))
    settled(page)
    mail = page.frame_locator("iframe.mail")
    expect(mail.get_by_role("heading", name=title)).to_be_visible()
    # Write: what is typed is in the preview before it is saved, and lint names the line.
    write(page, "\nHello {{ subscriber.name }}.\n\n[here](https://example.org/seeds)\n")
    expect(mail.get_by_text("Hello Reader.")).to_be_visible()
    expect(page.get_by_role("button", name="Line 4")).to_be_visible()
    page.get_by_label("As a subscriber").fill("s1@example.com")
    page.keyboard.press("Tab")
    expect(mail.get_by_text("Hello Name 1.")).to_be_visible()
    page.get_by_role("button", name="Text", exact=True).click()
    expect(page.locator("pre.text")).to_contain_text("Hello Name 1.")
    write(page, "\nHello {{ subscriber.name }}.\n\n[The seed list](https://example.org/seeds)\n")
    page.get_by_label("Preheader").fill("What to sow now")
    expect(page.get_by_text("Unsaved changes")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved", exact=True).first).to_be_visible()
    source = next((console.folder.path / "issues").glob(f"*seeds-at-{width}.md")).read_text(encoding="utf-8")
    assert 'preheader: "What to sow now"' in source
    assert "[The seed list](https://example.org/seeds)" in source
    # Test, plan, send.
    page.get_by_label("Send a test to").fill("me@example.org")
    page.get_by_role("button", name="Send the test").click()
    expect(page.get_by_text("The test went to me@example.org")).to_be_visible()
    expect(page.get_by_text(f"{PEOPLE} subscribers would get it.")).to_be_visible()
    page.get_by_label("Audience (empty").fill("tag:nobody")
    expect(page.get_by_text("0 subscribers would get it.")).to_be_visible()
    page.get_by_label("Audience (empty").fill("")
    page.get_by_role("button", name="Show the plan").click()
    expect(page.get_by_text(f"{PEOPLE} of {PEOPLE} subscribers")).to_be_visible()
    page.get_by_role("button", name="Send now").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(title)
    expect(dialog).to_contain_text(f"{PEOPLE} subscribers (everyone)")
    expect(dialog).to_contain_text("the outbox on this machine")
    dialog.get_by_role("button", name="Send now").click()
    # Watch it to its end, and look at the people behind a number.
    expect(page.locator(".tag.good", has_text="finished")).to_be_visible()
    page.get_by_role("link", name=f"{PEOPLE} sent").click()
    page.get_by_role("link", name="s1@example.com", exact=True).click()
    expect(page.locator(".timeline")).to_contain_text(f"seeds-at-{width}: sent")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(console.url)
    expect(page.get_by_role("link", name=title)).to_be_visible()
    context.close()


def test_change_on_disk_is_shown_and_never_overwritten(page: Page, console: Running) -> None:
    path = console.folder.path / "issues" / "001-short.md"
    before = path.read_text(encoding="utf-8")
    page.goto(f"{console.url}/issues/001-short")
    settled(page)
    write(page, "\nMine.\n")
    path.write_text(before + "\nTheirs.\n", encoding="utf-8")
    page.get_by_role("button", name="Save").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("-Theirs.")
    expect(dialog).to_contain_text("+Mine.")
    dialog.get_by_role("button", name="Keep editing").click()
    assert path.read_text(encoding="utf-8") == before + "\nTheirs.\n"
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Replace it with my version").click()
    expect(page.get_by_text("Saved", exact=True).first).to_be_visible()
    assert path.read_text(encoding="utf-8").endswith("\n---\n\nMine.\n")
    path.write_text(before, encoding="utf-8")


def test_two_people_never_overwrite_each_other(
    browser: Browser, page: Page, state: StorageState, console: Running
) -> None:
    path = console.folder.path / "issues" / "002-shared.md"
    path.write_text("---\ntitle: Shared\n---\n\nBefore.\n", encoding="utf-8")
    context = opened(browser, state)
    other = context.new_page()
    for one, text in ((other, "Hers"), (page, "His")):
        one.goto(f"{console.url}/issues/002-shared")
        settled(one)
        write(one, f"\n{text}.\n")
    other.get_by_role("button", name="Save").click()
    expect(other.get_by_text("Saved", exact=True).first).to_be_visible()
    page.get_by_role("button", name="Save").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("this machine saved it at")
    expect(dialog).to_contain_text("-Hers.")
    dialog.get_by_role("button", name="Discard mine and load theirs").click()
    expect(page.locator(".cm-content")).to_contain_text("Hers.")
    assert path.read_text(encoding="utf-8").endswith("\nHers.\n")
    context.close()


def test_schedule_has_a_zone_and_can_be_removed(page: Page, console: Running) -> None:
    page.goto(f"{console.url}/issues/001-short")
    settled(page)
    page.get_by_label("Send at").fill("2031-07-01T08:00")
    page.get_by_label("Time zone").fill("Europe/Bucharest")
    page.get_by_role("button", name="Schedule").click()
    page.get_by_role("dialog").get_by_role("button", name="Schedule").click()
    expect(page.get_by_text("Tuesday, 2031-07-01 08:00 EEST")).to_be_visible()
    settled(page)
    page.get_by_role("button", name="Remove the schedule").click()
    expect(page.locator(".head .tag", has_text="draft")).to_be_visible()


def test_import_is_tried_first_and_can_be_reverted(page: Page, console: Running, tmp_path: Path) -> None:
    file = tmp_path / "new people.csv"
    file.write_text("email,name\nnew@example.org,New\nbroken,\n", encoding="utf-8")
    page.goto(f"{console.url}/subscribers/import")
    settled(page)
    page.locator("input[type=file]").set_input_files(file)
    expect(page.locator("pre.diff")).to_contain_text("+ new@example.org")
    expect(page.get_by_text("Line 3:")).to_be_visible()
    page.goto(f"{console.url}/subscribers?q=new@")
    expect(page.get_by_text("Nobody matches.")).to_be_visible()
    page.goto(f"{console.url}/subscribers/import")
    settled(page)
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("Imported: 1 added")).to_be_visible()
    page.goto(f"{console.url}/subscribers?q=new@")
    expect(page.get_by_role("link", name="new@example.org")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()
    assert "new@example.org,New" in Path(download.value.path()).read_text(encoding="utf-8")
    page.goto(f"{console.url}/subscribers/import")
    settled(page)
    page.get_by_role("button", name=re.compile(r"Revert import \d+")).click()
    page.get_by_role("dialog").get_by_role("button", name="Revert").click()
    expect(page.get_by_role("button", name="Revert import 1")).to_be_visible()
    page.goto(f"{console.url}/subscribers?q=new@")
    expect(page.get_by_text("Nobody matches.")).to_be_visible()


def test_person_is_edited_unsubscribed_and_erased(page: Page, console: Running) -> None:
    assert console.folder.mailer("subscribers", "add", "ion@example.org").code == 0
    page.goto(f"{console.url}/subscribers?q=ion@")
    page.get_by_role("link", name="ion@example.org").click()
    settled(page)
    page.get_by_label("Tags, separated").fill("vip, sowing")
    page.get_by_label("Set an attribute").fill("country=RO")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".facts")).to_contain_text("country")
    expect(page.locator(".facts")).to_contain_text("sowing")
    settled(page)
    page.get_by_role("button", name="Unsubscribe").click()
    page.get_by_role("dialog").get_by_role("button", name="Unsubscribe").click()
    expect(page.locator(".head .tag")).to_have_text("unsubscribed")
    settled(page)
    page.get_by_role("button", name="Erase").click()
    page.get_by_role("dialog").get_by_role("button", name="Erase permanently").click()
    page.wait_for_url("**/subscribers")
    page.goto(f"{console.url}/audit")
    expect(page.locator("table")).to_contain_text("subscriber.erase")
    assert "ion@example.org" not in page.content()


def test_hostile_fields_run_nothing(page: Page, console: Running, tmp_path: Path) -> None:
    file = tmp_path / "evil.jsonl"
    file.write_text(
        json.dumps(
            {"email": "evil@example.org", "name": EVIL, "tags": [EVIL[:60]], "attributes": {EVIL[:40]: EVIL}}
        )
        + "\n"
        + json.dumps({"email": EVIL, "name": "x"}),
        encoding="utf-8",
    )
    page.goto(f"{console.url}/subscribers/import")
    settled(page)
    page.locator("input[type=file]").set_input_files(file)
    expect(page.locator("pre.diff")).to_contain_text("evil@example.org")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("Imported: 1 added")).to_be_visible()
    assert page.evaluate("window.taken") is None
    for path in (
        "/subscribers?q=evil",
        "/subscribers?where=" + EVIL,
        f"/issues/{EVIL}",
        "/bounces?outcome=" + EVIL,
    ):
        page.goto(console.url + path)
        settled(page)
        assert page.evaluate("window.taken") is None, path
    page.goto(f"{console.url}/subscribers?q=evil")
    page.get_by_role("link", name="evil@example.org").click()
    settled(page)
    expect(page.locator(".facts")).to_contain_text("onerror")
    assert page.evaluate("window.taken") is None


@contextmanager
def stored(console: Running) -> Iterator[Session]:
    """Give a transaction on the console's database."""
    with (
        Database("sqlite:///subscribers.db", folder=console.folder.path) as database,
        database.transaction() as session,
    ):
        yield session


def plant(console: Running) -> None:
    """Put the attack wherever foreign text is kept: names, files, replies, reports, settings."""
    at = datetime.now(UTC)
    with stored(console) as session:
        person = session.scalars(select(Subscriber).limit(1)).one()
        person.name, person.attributes = EVIL, {EVIL: EVIL}
        session.add(
            Consent(
                subscriber_id=person.id, at=at, before="active", after="active", way=EVIL[:16],
                ip=EVIL[:45], form=EVIL, note=EVIL,
            )
        )  # fmt: skip
        session.add(Suppression(address_key=person.address_key, reason="bounce", at=at, note=EVIL))
        report = StoredReport(
            digest="0" * 64, received_at=at, source=EVIL[:16], kind="bounce", outcome="unmatched",
            recipient=EVIL, subscriber_id=person.id, details={EVIL: EVIL, "text": EVIL},
            raw=EVIL.encode(),
        )  # fmt: skip
        session.add(report)
        for issue_id in session.scalars(select(StoredIssue.id)):
            session.execute(
                update(Delivery)
                .where(Delivery.subscriber_id == person.id, Delivery.issue_id == issue_id)
                .values(state="failed", reply=EVIL, enhanced=EVIL[:16], bounce_class=EVIL[:32])
            )
            for kind in ("alert", "open"):
                session.add(Event(at=at, kind=kind, subscriber_id=person.id, issue_id=issue_id,
                                  details={"text": EVIL, "agent": EVIL, "referrer": EVIL}))  # fmt: skip
        session.add(Import(source=f"/tmp/{EVIL}", at=at, added=1, updated=0, rejected=0))
        session.add(AuditEntry(at=at, who=EVIL[:64], act=EVIL[:40], about=EVIL, details={EVIL: EVIL}))
        session.add(ApiToken(name=EVIL[:64], digest="0" * 64, scopes="", created_at=at))
        session.add(WebhookEndpoint(id=1, url=EVIL, secret="", events=EVIL[:60], created_at=at))
        session.add(WebhookEvent(uid="evt_0", type=EVIL[:40], at=at, data={}))
        session.flush()
        session.add(WebhookDelivery(event_uid="evt_0", endpoint_id=1, state="failed", said=EVIL[:200]))
        session.add(ConsoleUser(name=EVIL[:64], role="reader", password="", totp_secret="", created_at=at))
    path = console.folder.path / "issues" / "003-evil.md"
    written = json.dumps(EVIL)
    path.write_text(f"---\ntitle: {written}\nsubject: {written}\n---\n\n{EVIL}\n", encoding="utf-8")


def test_hostile_text_runs_on_no_page(page: Page, console: Running) -> None:
    plant(console)
    with stored(console) as session:
        person = session.scalars(select(Subscriber.id).where(Subscriber.name == EVIL)).first()
        report = session.scalars(select(StoredReport.id)).one()
        issues = list(session.scalars(select(StoredIssue.slug)))
    paths = ["/", "/issues", "/issues/003-evil", "/subscribers", f"/subscribers/{person}", "/bounces",
             "/subscribers/import", f"/bounces/{report}", "/settings", "/settings/access",
             "/audit"]  # fmt: skip
    for slug in issues:
        paths += [f"/issues/{slug}", f"/issues/{slug}/deliveries?state=failed", f"/issues/{slug}/readers",
                  f"/issues/{slug}/readers?kind=unsubscribed", f"/issues/{slug}/clicks"]  # fmt: skip
    shown = []
    for path in paths:
        page.goto(console.url + path)
        settled(page)
        page.wait_for_timeout(900 if path.endswith("evil") else 100)
        shown += [path] * ("onerror=" in page.locator("body").inner_text())
        assert page.evaluate("window.taken") is None, path
        assert all(frame.evaluate("window.taken") is None for frame in page.frames), path
    assert {"/", "/issues/003-evil", f"/subscribers/{person}", f"/bounces/{report}", "/settings/access",
            "/audit"} <= set(shown)  # fmt: skip
    with stored(console) as session:
        session.execute(delete(ConsoleUser))


def with_passkey(page: Page, console: Running) -> None:
    """Add a passkey, log out, and log in with it; a removed one is not accepted."""
    driver = page.context.new_cdp_session(page)
    driver.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True,
               "hasUserVerification": True, "isUserVerified": True}  # fmt: skip
    driver.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    page.goto(f"{console.url}/settings/passkeys")
    settled(page)
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_role("cell", name="1", exact=True)).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("heading", name="Home")).to_be_visible()
    expect(page.get_by_text("Mia · reader")).to_be_visible()
    page.goto(f"{console.url}/settings/passkeys")
    settled(page)
    page.get_by_role("button", name="Remove passkey 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("button", name="Remove passkey 1")).to_be_hidden()
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_text("This passkey is not known here.")).to_be_visible()


def test_login_form_takes_password_and_code_and_stops_guessing(
    browser: Browser, console: Running, tmp_path: Path
) -> None:
    # Passkeys belong to a host name; browsers accept none for an address.
    console = replace(console, url=f"http://localhost:{console.port}")
    (tmp_path / "password").write_text("correct horse battery\n", encoding="utf-8")
    arguments = ("--role", "reader", "--json", "--password-file", str(tmp_path / "password"))
    code = pyotp.TOTP(console.folder.mailer("users", "add", "Mia", *arguments).json["totp_secret"])
    context = browser.new_context(user_agent=AGENT)
    page = context.new_page()

    def attempt(password: str, digits: str) -> None:
        page.get_by_label("Name").fill("Mia")
        page.get_by_label("Password").fill(password)
        page.get_by_label("Code from").fill(digits)
        page.get_by_role("button", name="Log in").click()

    page.goto(console.url)
    attempt("correct horse battery", "000000")
    expect(page.get_by_role("alert").first).to_have_text("Name, password or code is wrong.")
    expect(page.get_by_label("Name")).to_have_value("Mia")
    attempt("wrong horse battery", code.now())
    expect(page.get_by_role("alert").first).to_have_text("Name, password or code is wrong.")
    attempt("correct horse battery", code.now())
    expect(page.get_by_role("heading", name="Home")).to_be_visible(timeout=_SECONDS)
    expect(page.get_by_text("Mia · reader")).to_be_visible()
    page.goto(f"{console.url}/audit")
    expect(page.get_by_text("This page needs the role 'admin'; yours is 'reader'")).to_be_visible()
    with_passkey(page, console)
    for _ in range(3):
        attempt("correct horse battery", "000000")
    expect(page.get_by_role("alert").first).to_have_text("Too many attempts. Wait a minute, then try again.")
    assert console.folder.mailer("users", "remove", "Mia", "--yes").code == 0
    context.close()


def test_open_page_can_do_nothing_after_the_logout(browser: Browser, console: Running) -> None:
    context = browser.new_context(user_agent=AGENT)
    page = context.new_page()
    page.goto(console.link())
    expect(page.get_by_role("heading", name="Home")).to_be_visible(timeout=_SECONDS)
    other = context.new_page()
    other.goto(f"{console.url}/issues")
    settled(other)
    page.get_by_role("button", name="Log out").click()
    other.wait_for_url("**/login")
    other.goto(f"{console.url}/issues")
    expect(other.get_by_role("heading", name="Open the console with its link")).to_be_visible()
    context.close()


def test_keyboard_alone_suffices(page: Page, console: Running) -> None:
    page.goto(f"{console.url}/issues")
    settled(page)

    def press_until(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent.trim()") == name:
                return
        raise AssertionError(f"{name} is not reached with Tab")

    press_until("New issue")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Title")).to_be_focused()
    page.keyboard.type("Keys")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("-keys$"))
    settled(page)
    page.locator(".cm-content").focus()
    page.keyboard.type("By keyboard. ")
    page.keyboard.press("Control+s")
    expect(page.get_by_text("Saved", exact=True).first).to_be_visible()
    # Escape frees the Tab key for two seconds, which a busy machine may need for the next key.
    for _ in range(5):
        page.keyboard.press("Escape")
        page.keyboard.press("Tab")
        if page.evaluate("!document.activeElement.closest('.cm-editor')"):
            break
    assert page.evaluate("!document.activeElement.closest('.cm-editor')")
    path = next((console.folder.path / "issues").glob("*-keys.md"))
    deadline = time.monotonic() + 10
    while "By keyboard." not in path.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_axe_finds_nothing(browser: Browser, state: StorageState, console: Running) -> None:
    if not _AXE.exists():
        missing("axe-core, which tests/install/node.sh installs,")
    program = _AXE.read_text(encoding="utf-8")
    with Database("sqlite:///subscribers.db", folder=console.folder.path) as database:
        assert database.exists()
    pages = ("/", "/issues", "/issues/001-short", "/subscribers", "/subscribers/1", "/subscribers/import",
             "/bounces", "/deliverability", "/settings", "/settings/access", "/audit")  # fmt: skip
    faults = []
    for width, scheme in ((1280, "light"), (375, "dark")):
        context = opened(browser, state, width, scheme)
        page = context.new_page()
        for path in pages:
            page.goto(console.url + path)
            settled(page)
            page.wait_for_timeout(600 if path.startswith("/issues/") else 100)
            page.evaluate(program)
            faults += [f"{path} {width} {scheme}: {one}" for one in page.evaluate(_RUN)]
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        context.close()
    assert "\n".join(faults) == ""


def test_large_import_shows_its_progress(page: Page, console: Running, tmp_path: Path) -> None:
    """The last test here: it leaves 100,000 subscribers behind."""
    file = tmp_path / "many.csv"
    file.write_text("email\n" + "".join(f"many{n}@example.net\n" for n in range(MANY)), encoding="utf-8")
    page.goto(f"{console.url}/subscribers/import")
    settled(page)
    page.locator("input[type=file]").set_input_files(file)
    for following in ("Import", ""):
        rows = page.get_by_text("rows read")
        expect(rows).to_be_visible()
        seen = {rows.inner_text()}
        while page.get_by_text("rows read").is_visible():
            with suppress(PlaywrightError):
                seen.add(rows.inner_text(timeout=500))
            page.wait_for_timeout(100)
        assert len(seen) > 1, seen
        if following:
            expect(page.get_by_role("heading", name="3. What would change")).to_be_visible()
            page.get_by_role("button", name=following, exact=True).click()
    expect(page.get_by_text(f"Imported: {MANY:,} added")).to_be_visible()
    page.goto(f"{console.url}/subscribers?q=many")
    expect(page.get_by_role("status").filter(has_text=f"{MANY:,} people")).to_be_visible()
