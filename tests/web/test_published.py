"""When an issue becomes public: not before its canary has passed, not while paused, not once cancelled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from mailer.database.tables import CanaryState
from mailer.delivery import canary, control, issues
from mailer.delivery.books import Books
from mailer.delivery.ending import Ending
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.sender import Sender
from tests.delivery.scene import AT, run, subscribe
from tests.web.conftest import CROCUS, Site, edition

SLUG = "007-spring"
LATER = AT + timedelta(hours=1)
NOWHERE = (False, False, 404)
EVERYWHERE = (True, True, 200)
LINK_ONLY = (False, False, 200)


@pytest.fixture
def issue(site: Site) -> QueuedIssue:
    """An issue queued for forty people."""
    subscribe(site.database, 40)
    with site.database.transaction() as connection:
        queued, _ = issues.enqueue(connection, edition(SLUG, images_published=True), source_path="", at=AT)
    return queued


def shown(site: Site) -> tuple[bool, bool, int]:
    """Return whether the list and the feed have the issue, and the status of its page."""
    lists = [SLUG in site.client.get(path).text for path in ("/archive/", "/feed.xml")]
    return lists[0], lists[1], site.client.get(f"/archive/{SLUG}").status_code


def lead(site: Site, issue: QueuedIssue) -> None:
    with site.database.transaction() as connection:
        canary.begin(connection, issue.id, 0.1, ())
        canary.advance(connection, issue.id, CanaryState.SENDING)


def test_issue_is_public_once_a_message_was_sent(site: Site, issue: QueuedIssue, tmp_path: Path) -> None:
    assert shown(site) == NOWHERE
    run(site.database, issue, tmp_path / "box", clock=lambda: LATER)
    assert shown(site) == EVERYWHERE
    with site.database.reading() as connection:
        assert issues.get(connection, issue.id).published_at == LATER


def test_issue_becomes_public_while_it_is_still_being_sent(
    site: Site, issue: QueuedIssue, tmp_path: Path
) -> None:
    seen: set[tuple[bool, bool, int]] = set()

    def look(known: Books, sender: Sender) -> None:
        if 0 < known.sent < 40 and known.sending:
            seen.add(shown(site))

    run(site.database, issue, tmp_path / "box", meanwhile=look)
    assert EVERYWHERE in seen


def test_images_are_served_to_those_who_got_it_first(site: Site, issue: QueuedIssue, tmp_path: Path) -> None:
    lead(site, issue)
    run(site.database, issue, tmp_path / "box")
    assert shown(site) == NOWHERE
    assert site.client.get(f"/archive/{SLUG}/{CROCUS.name}").status_code == 200


def test_issue_is_public_once_its_canary_has_passed(site: Site, issue: QueuedIssue, tmp_path: Path) -> None:
    lead(site, issue)
    assert run(site.database, issue, tmp_path / "box").books.sent == 4
    assert shown(site) == NOWHERE
    with site.database.transaction() as connection:
        canary.advance(connection, issue.id, CanaryState.WAITING, until=LATER)
    assert shown(site) == NOWHERE
    with site.database.transaction() as connection:
        canary.let_pass(connection, issue.id, at=LATER)
    assert shown(site) == EVERYWHERE


@pytest.mark.parametrize("cut_short", [True, False], ids=["resumed while waiting", "stopped, then resumed"])
def test_operator_lets_a_canary_pass(site: Site, issue: QueuedIssue, tmp_path: Path, cut_short: bool) -> None:
    lead(site, issue)
    run(site.database, issue, tmp_path / "box")
    with site.database.transaction() as connection:
        canary.advance(connection, issue.id, CanaryState.WAITING, until=LATER)
        if not cut_short:
            assert canary.stop(connection, issue.id, "too many bounced")
    assert shown(site) == NOWHERE
    with site.database.transaction() as connection:
        assert canary.hurry(connection, issue.id) if cut_short else control.resume(connection, issue.id)
    run(site.database, issue, tmp_path / "box")
    assert shown(site) == EVERYWHERE


def test_paused_issue_is_not_published(site: Site, issue: QueuedIssue, tmp_path: Path) -> None:
    def pause(known: Books, sender: Sender) -> None:
        # The first window is on its way: most of it is sent, and settled after the pause.
        if known.sending:
            with site.database.transaction() as connection:
                control.pause(connection, issue.id, "a wrong date")

    assert run(site.database, issue, tmp_path / "box", meanwhile=pause).ending is Ending.PAUSED
    assert shown(site) == NOWHERE
    with site.database.transaction() as connection:
        control.resume(connection, issue.id)
    run(site.database, issue, tmp_path / "box")
    assert shown(site) == EVERYWHERE


def pause(site: Site, issue: QueuedIssue) -> None:
    with site.database.transaction() as connection:
        control.pause(connection, issue.id, "a rest")


def cancel(site: Site, issue: QueuedIssue) -> None:
    with site.database.transaction() as connection:
        control.cancel(connection, issue.id, at=LATER)


@pytest.mark.parametrize(("stop", "expected"), [(pause, EVERYWHERE), (cancel, LINK_ONLY)])
def test_page_of_an_issue_that_many_have_got_stays(
    site: Site,
    issue: QueuedIssue,
    tmp_path: Path,
    stop: Callable[[Site, QueuedIssue], None],
    expected: tuple[bool, bool, int],
) -> None:
    # Half of the audience has the link in a message; the others cannot find the page.
    def halfway(known: Books, sender: Sender) -> None:
        if known.sent >= 10 and shown(site) == EVERYWHERE:
            sender.stop()

    assert run(site.database, issue, tmp_path / "box", meanwhile=halfway).books.sent < 40
    stop(site, issue)
    assert shown(site) == expected


@pytest.mark.parametrize("led", [True, False])
def test_issue_that_is_cancelled_before_it_was_public_has_no_page(
    site: Site, issue: QueuedIssue, tmp_path: Path, led: bool
) -> None:
    if led:
        lead(site, issue)
        run(site.database, issue, tmp_path / "box")
    cancel(site, issue)
    run(site.database, issue, tmp_path / "box")
    assert shown(site) == NOWHERE
