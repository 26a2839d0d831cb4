"""The console in Chromium: an editor's whole job without a terminal, and attacks on it."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from playwright.sync_api import Error as PlaywrightError
from sqlalchemy import delete, func, select, update

from mailer.address import parse_address
from mailer.audience.subscribers import add
from mailer.audience.transitions import Origin
from mailer.console.users import Role, add_user, remove_user
from mailer.database.tables import AuditEntry, ConsoleSession, ConsoleUser, StoredReport, Subscriber
from mailer.delivery.issues import audience
from tests.conftest import PROJECT, missing
from tests.console.browsing import (
    EVIL,
    SECONDS,
    at_the_console,
    context_of,
    plant,
    settled,
    stored,
    write,
)
from tests.console.conftest import AGENT, CONFIG, PEOPLE, Running, started
from tests.console.provider import CLIENT, SECRET, Provider, provider
from tests.end_to_end.newsletter import Folder

pytestmark = [pytest.mark.servers, pytest.mark.slow]

_AXE = PROJECT / "tests" / "install" / "node" / "node_modules" / "axe-core" / "axe.min.js"
_RUN = """async () => (await axe.run(document, {iframes: false, preload: false,
    resultTypes: ["violations"]})).violations.map(
    (found) => `${found.id}: ${found.nodes.map((node) => node.html.slice(0, 200)).join(" | ")}`)"""
MANY = 100_000


@pytest.fixture(scope="module")
def other() -> Iterator[Provider]:
    """The organization's OpenID Connect provider."""
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory, other: Provider) -> Iterator[Running]:
    """One console for all tests here, with a worker and sixty subscribers."""
    rules = f'[console.oidc]\nissuer = "{other.url}"\nclient_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'
    canary = '[canary]\nwait = "PT1S"\n'
    folder = Folder(tmp_path_factory.mktemp("console") / "news", CONFIG + canary + rules)
    folder.subscribe(PEOPLE)
    with started(folder) as running:
        yield running


@pytest.fixture(scope="module")
def context(browser: Browser, console: Running) -> Iterator[BrowserContext]:
    """The browser of a person who opened the link. Its cache is warm for all tests but the first."""
    made = context_of(browser)
    page = made.new_page()
    page.goto(console.link())
    expect(page.get_by_role("heading", name="Home")).to_be_visible()
    page.close()
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    made = context.new_page()
    yield made
    made.close()


def mailed(console: Running) -> int:
    """Return how many people would get an issue now: other tests add some and suppress some."""
    with stored(console) as connection:
        theirs = select(func.count()).where(audience(None, at=datetime.now(UTC)))
        return connection.scalars(theirs).one()


@pytest.mark.parametrize("width", [1280, 375])
def test_editor_needs_no_terminal(page: Page, console: Running, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    people = mailed(console)
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
    expect(page.get_by_text(f"{people} subscribers would get it.")).to_be_visible()
    page.get_by_label("Audience (empty").fill("tag:nobody")
    expect(page.get_by_text("0 subscribers would get it.")).to_be_visible()
    page.get_by_label("Audience (empty").fill("")
    page.get_by_role("button", name="Show the plan").click()
    expect(page.get_by_text(f"{people} of {people} subscribers")).to_be_visible()
    page.get_by_role("button", name="Send now").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(title)
    expect(dialog).to_contain_text(f"{people} subscribers (everyone)")
    expect(dialog).to_contain_text("the outbox on this machine")
    dialog.get_by_role("button", name="Send now").click()
    # Watch it to its end, and look at the people behind a number.
    expect(page.locator(".tag.good", has_text="finished")).to_be_visible()
    page.get_by_role("link", name=f"{people} sent").click()
    page.get_by_role("link", name="s1@example.com", exact=True).click()
    expect(page.locator(".timeline")).to_contain_text(f"seeds-at-{width}: sent")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(console.url)
    expect(page.get_by_role("link", name=title)).to_be_visible()


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


def test_two_people_never_overwrite_each_other(context: BrowserContext, page: Page, console: Running) -> None:
    path = console.folder.path / "issues" / "002-shared.md"
    path.write_text("---\ntitle: Shared\n---\n\nBefore.\n", encoding="utf-8")
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
    other.close()


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
    with stored(console) as connection:
        add(connection, parse_address("ion@example.org"), secret=b"0" * 32, origin=Origin("command"),
            at=datetime.now(UTC))  # fmt: skip
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


def with_passkey(page: Page, console: Running) -> None:
    """Log in again to add a passkey, and log in with it; a removed one is not accepted."""
    driver = page.context.new_cdp_session(page)
    driver.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True,
               "hasUserVerification": True, "isUserVerified": True}  # fmt: skip
    driver.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    with stored(console) as connection:
        old = update(ConsoleSession).values(created_at=datetime.now(UTC) - timedelta(minutes=11))
        connection.execute(old.where(ConsoleSession.c.user_id.is_not(None)))
    page.goto(f"{console.url}/settings/passkeys")
    settled(page)
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_text("You logged in more than ten minutes ago.")).to_be_visible()
    # Through the organization's provider, which is another website.
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("link", name="Log in with single sign-on").click()
    expect(page.get_by_text("Mia · reader")).to_be_visible()
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


def test_people_log_in_by_password_provider_and_passkey_and_guessing_stops(
    browser: Browser, console: Running
) -> None:
    # Passkeys belong to a host name; browsers accept none for an address.
    console = replace(console, url=f"http://localhost:{console.port}")
    with stored(console) as connection:
        _, totp = add_user(connection, "Mia", Role.READER, "correct horse battery", email="mia@example.org",
                           at=datetime.now(UTC))  # fmt: skip
    code = pyotp.TOTP(totp)
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
    expect(page.get_by_role("heading", name="Home")).to_be_visible(timeout=SECONDS)
    expect(page.get_by_text("Mia · reader")).to_be_visible()
    page.goto(f"{console.url}/audit")
    expect(page.get_by_text("This page needs the role 'admin'; yours is 'reader'")).to_be_visible()
    with_passkey(page, console)
    for _ in range(3):
        attempt("correct horse battery", "000000")
    expect(page.get_by_role("alert").first).to_have_text("Too many attempts. Wait a minute, then try again.")
    with stored(console) as connection:
        remove_user(connection, "Mia")
    context.close()


def test_open_page_can_do_nothing_after_the_logout(browser: Browser, console: Running) -> None:
    context = browser.new_context(user_agent=AGENT)
    page = context.new_page()
    page.goto(console.link())
    expect(page.get_by_role("heading", name="Home")).to_be_visible(timeout=SECONDS)
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
            if re.fullmatch(name, page.evaluate("document.activeElement.textContent.trim()")):
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
        # It came too late, and the Tab key has indented the text.
        page.keyboard.press("Control+s")
    assert page.evaluate("!document.activeElement.closest('.cm-editor')")
    path = next((console.folder.path / "issues").glob("*-keys.md"))
    deadline = time.monotonic() + 10
    while "By keyboard." not in path.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    expect(page.get_by_text("Unsaved changes", exact=True)).to_be_hidden()
    # Send it: the dialog holds the focus, on the button that does nothing.
    press_until("Send now")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(dialog.get_by_role("button", name="Send now")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".tag.good", has_text="finished")).to_be_visible()
    # Look at the people behind a number, and at what one of them got.
    settled(page)
    press_until(r"\d+sent")
    page.keyboard.press("Enter")
    page.wait_for_url("**/deliveries?state=sent")
    settled(page)
    press_until("s1@example.com")
    page.keyboard.press("Enter")
    expect(page.locator(".timeline")).to_contain_text("-keys: sent")


def faults(page: Page, program: str) -> list[str]:
    """Return what axe finds wrong, wide in the light and narrow in the dark."""
    found = []
    page.evaluate(program)
    for width, scheme in ((1280, "light"), (375, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        found += [f"{page.url} {width} {scheme}: {one}" for one in page.evaluate(_RUN)]
        try:
            # Some fields take a moment to follow the width of the window.
            page.wait_for_function("document.documentElement.scrollWidth <= innerWidth", timeout=5_000)
        except PlaywrightError:
            found.append(f"{page.url} {width} is too wide")
    return found


def test_every_page_is_accessible_and_runs_no_foreign_text(page: Page, console: Running) -> None:
    """Each page with an attack wherever foreign text is kept, in both themes and widths."""
    if not _AXE.exists():
        missing("axe-core, which tests/install/node.sh installs,")
    program = _AXE.read_text(encoding="utf-8")
    plant(console)
    with stored(console) as connection:
        person = connection.scalars(select(Subscriber.c.id).where(Subscriber.c.name == EVIL)).first()
        report = connection.scalars(select(StoredReport.c.id)).one()
    evil, issue = "/issues/003-evil", "/issues/002-seeds-at-1280"
    at_provider = f"{issue}/deliveries?state=all&provider=example.com"
    pages = ("/", "/issues", "/issues/001-short", evil, issue, f"{issue}/clicks",
             f"{issue}/deliveries?state=failed", at_provider, f"{issue}/readers",
             f"{issue}/readers?kind=unsubscribed", "/subscribers", f"/subscribers/{person}",
             "/subscribers/import", "/bounces", f"/bounces/{report}", "/deliverability", "/settings",
             "/settings/access", "/settings/passkeys", "/audit", "/no-such-page",
             "/links.csv?issue=none")  # fmt: skip
    # These are laid out like others.
    alike = {evil, at_provider, f"{issue}/clicks", f"{issue}/readers", f"{issue}/readers?kind=unsubscribed"}
    shown, wrong = set(), list[str]()
    for path in pages:
        answer = page.goto(console.url + path)
        assert answer is not None
        assert (answer.status == 404) is (path in pages[-2:])
        settled(page)
        if path == issue:
            expect(page.locator(f'a[href="{at_provider}"]')).to_have_text(str(PEOPLE))
        elif path == at_provider:
            expect(page.locator("table .person")).to_have_count(PEOPLE)
        elif path == evil:
            expect(page.get_by_text("'*' is not available in an issue")).to_be_visible()
        elif page.locator("iframe.mail").count():
            expect(page.frame_locator("iframe.mail").locator("a").first).to_be_attached()
        if "onerror=" in page.locator("body").inner_text():
            shown.add(path)
        assert all(frame.evaluate("window.taken") is None for frame in page.frames), path
        wrong += [] if path in alike else faults(page, program)
    assert page.context.browser is not None
    stranger = context_of(page.context.browser)
    form = stranger.new_page()
    form.goto(f"{console.url}/login")
    wrong += faults(form, program)
    stranger.close()
    assert "\n".join(wrong) == ""
    assert {"/", evil, f"/subscribers/{person}", f"/bounces/{report}", "/settings/access", "/audit"} <= shown
    with stored(console) as connection:
        connection.execute(delete(ConsoleUser))


def test_canary_goes_first_and_the_others_follow(page: Page, console: Running) -> None:
    people = mailed(console)
    path = console.folder.path / "issues" / "020-first-a-few.md"
    path.write_text("---\ntitle: First a few\n---\n\nHello.\n", encoding="utf-8")
    page.goto(f"{console.url}/issues/020-first-a-few")
    settled(page)
    page.get_by_label("First to a part").fill("many")
    page.get_by_role("button", name="Send now").click()
    expect(page.get_by_text("Write the first part as a share of the audience")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    page.get_by_label("First to a part").fill("50%")
    page.get_by_role("button", name="Send now").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("50.00%; the others follow if all is well")
    dialog.get_by_role("button", name="Send now").click()
    expect(page.locator(".tag.good", has_text="finished")).to_be_visible()
    expect(page.locator(".facts")).to_contain_text("passed")
    expect(page.get_by_role("link", name=f"{people} sent")).to_be_visible()


def test_arm_is_chosen_for_everyone_else(page: Page, console: Running) -> None:
    people = mailed(console)
    second = math.ceil(people / 2) // 2
    first = math.ceil(people / 2) - second
    path = console.folder.path / "issues" / "021-two-subjects.md"
    front = "title: Two\nsubject: [First, Second]\ntest: {share: 50%, wait: PT1H, hold: true}"
    path.write_text(f"---\n{front}\n---\n\nHello.\n", encoding="utf-8")
    page.goto(f"{console.url}/issues/021-two-subjects")
    settled(page)
    page.get_by_role("button", name="Send now").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("First / Second")
    dialog.get_by_role("button", name="Send now").click()
    arms = page.locator(".card", has=page.get_by_role("heading", name="A/B test"))
    expect(arms).to_contain_text("Not decided yet.")
    expect(arms.get_by_role("row", name="Second")).to_contain_text(f"{second} of {second}")
    page.get_by_role("button", name="Choose B").click()
    page.get_by_role("dialog").get_by_role("button", name="Choose B").click()
    expect(page.locator(".tag.good", has_text="finished")).to_be_visible()
    expect(arms.get_by_role("row", name="B (won)")).to_contain_text("Second")
    subjects = [one for one in console.folder.kept() if b"Subject: Second" in one]
    assert len(subjects) == people - first


@contextmanager
def approval_needed(console: Running) -> Iterator[None]:
    """Require a second person's approval in the block."""
    path = console.folder.path / "config.toml"
    before = path.read_text(encoding="utf-8")
    path.write_text(f"{before}[console]\napproval = true\n", encoding="utf-8")
    yield
    path.write_text(before, encoding="utf-8")


def test_second_person_approves(browser: Browser, console: Running) -> None:
    path = console.folder.path / "issues" / "022-asked.md"
    path.write_text("---\ntitle: Asked\n---\n\nHello.\n", encoding="utf-8")
    with (
        approval_needed(console),
        at_the_console(browser, console, "Mia", Role.SENDER) as mia,
        at_the_console(browser, console, "Dan", Role.SENDER) as dan,
    ):
        mia.goto(f"{console.url}/issues/022-asked")
        settled(mia)
        mia.get_by_label("Audience (empty").fill('email = "s2@example.com"')
        mia.get_by_role("button", name="Send now").click()
        asked = mia.get_by_role("dialog")
        expect(asked).to_contain_text('1 subscriber (email = "s2@example.com")')
        asked.get_by_role("button", name="Ask for approval").click()
        expect(mia.get_by_text("Someone else must approve it.")).to_be_visible()
        expect(mia.get_by_role("button", name="Approve")).to_have_count(0)
        dan.goto(f"{console.url}/issues/022-asked")
        settled(dan)
        expect(dan.locator(".card", has_text="Waiting for approval").last).to_contain_text("Mia asked at")
        dan.get_by_role("button", name="Approve").click()
        dialog = dan.get_by_role("dialog")
        expect(dialog).to_contain_text('1 subscriber (email = "s2@example.com")')
        dialog.get_by_role("button", name="Approve: send now").click()
        expect(dan.locator(".tag.good", has_text="finished")).to_be_visible()
    with stored(console) as connection:
        acts = list(
            connection.execute(
                select(AuditEntry.c.who, AuditEntry.c.act).where(AuditEntry.c.about == "022-asked")
            )
        )
    assert acts == [("Mia", "issue.propose"), ("Dan", "issue.approve")]


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
            page.wait_for_timeout(300)
        assert len(seen) > 1, seen
        if following:
            expect(page.get_by_role("heading", name="3. What would change")).to_be_visible()
            page.get_by_role("button", name=following, exact=True).click()
    expect(page.get_by_text(f"Imported: {MANY:,} added")).to_be_visible()
    page.goto(f"{console.url}/subscribers?q=many")
    expect(page.get_by_role("status").filter(has_text=f"{MANY:,} people")).to_be_visible()
