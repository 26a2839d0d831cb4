"""`mailer status` says what waits, since when and why; `mailer retry` queues it again."""

from __future__ import annotations

import io
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import String, cast, literal, update

from mailer.cli import run
from mailer.cli.watching import look, watch
from mailer.config import load
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, Subscriber
from mailer.delivery import control, letters, runs
from mailer.delivery.letters import LetterKind
from mailer.delivery.queue import Settled
from mailer.reports.progress import by_provider, largest
from tests.delivery.scene import AT, queued
from tests.delivery.scene import run as send
from tests.end_to_end.newsletter import Folder


def answer(recipient: str) -> str | None:
    number = int(recipient.partition("@")[0][1:])
    if number <= 2:
        return "550 5.1.1 No such user"
    if number <= 5:
        return "451 4.7.1 Greylisted, come again"
    return "452 4.2.2 Mailbox full" if number == 6 else None


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An issue to twenty: two refused, four deferred for two reasons."""
    made = Folder(tmp_path / "news")
    with Database(load(made.path / "config.toml").paths.database, folder=made.path) as database:
        database.open()
        send(database, queued(database, 20), made.path / "box", answer=answer)
    return made


def test_waiting_deliveries_show_number_reason_and_time(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "1", "--json", "-C", str(folder.path)]) == 0
    found = json.loads(capsys.readouterr().out)
    groups = found["waiting"]
    assert [(group["number"], group["state"], group["attempts"]) for group in groups] == [
        (3, "deferred", 1),
        (1, "deferred", 1),
    ]
    assert groups[0]["reason"] == "451 4.7.1 Greylisted, come again"
    assert found["next_try_at"] == min(group["next_at"] for group in groups)
    assert run(["status", "1", "-C", str(folder.path)]) == 0
    out = capsys.readouterr().out
    assert "4 wait for another attempt, the next at 20" in out
    assert "         3  deferred, until 20" in out
    assert "451 4.7.1 Greylisted, come again" in out
    assert "452 4.2.2 Mailbox full" in out


@pytest.mark.parametrize(("only", "number"), [("failed", 2), ("deferred", 4), ("uncertain", 0)])
def test_retry_queues_exactly_those_again(
    folder: Folder, capsys: pytest.CaptureFixture[str], only: str, number: int
) -> None:
    assert run(["retry", "1", "--only", only, "-C", str(folder.path)]) == 0
    said = f"{number} deliveries queued again" if number else f"no delivery is {only}; nothing changed"
    assert said in capsys.readouterr().out
    assert run(["status", "1", "--json", "-C", str(folder.path)]) == 0
    books = json.loads(capsys.readouterr().out)["books"]
    assert (books["queued"], books["sent"], books[only]) == (number, 14, 0)


def test_deliveries_of_a_state_are_listed_one_by_one(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "1", "--list", "failed", "--json", "-C", str(folder.path)]) == 0
    failed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["answer"] for one in failed] == ["550 5.1.1 No such user"] * 2
    assert [one["address"].partition("@")[0] for one in failed] == ["s1", "s2"]
    assert [(one["state"], one["attempts"], one["next_at"]) for one in failed] == [("failed", 1, None)] * 2
    assert run(["status", "1", "--list", "deferred", "-C", str(folder.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("@")[0] for line in lines] == ["s3", "s4", "s5", "s6"]
    assert "  1 try  20" in lines[0]
    assert lines[0].endswith("  451 4.7.1 Greylisted, come again")
    assert run(["status", "1", "--list", "uncertain", "-C", str(folder.path)]) == 0
    assert capsys.readouterr().out == ""


def test_list_without_an_issue_is_refused(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--list", "failed", "-C", str(folder.path)]) == 2
    assert "--list needs an ISSUE" in capsys.readouterr().err


def test_withdrawn_issue_is_corrected_and_sent(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "news")
    folder.subscribe(3)
    path = folder.path / "issues" / "001-short.md"
    good = path.read_text()
    path.write_text(good + "\nYou live in {{ subscriber.ctiy }}.\n")
    refused = folder.mailer("send", "1", "--yes")
    assert refused.code == 5
    assert "'subscriber.ctiy' is missing for 3 of a sample of 3 subscribers, such as s" in refused.err
    assert folder.mailer("status", "--json").json["issues"] == []
    assert "001-short  draft" in folder.mailer("status").out
    # Sent all the same, nobody can get it.
    assert folder.mailer("send", "1", "--yes", "--no-lint").code == 4
    assert folder.books()["failed"] == 3
    withdrawn = folder.mailer("withdraw", "1", "--yes")
    assert (withdrawn.code, withdrawn.out) == (
        0, "001-short: withdrawn with 3 deliveries; correct it, then: mailer send 001-short\n",
    )  # fmt: skip
    path.write_text(good)
    assert folder.mailer("send", "1", "--yes").code == 0
    assert folder.books()["sent"] == 3
    refused = folder.mailer("withdraw", "1", "--yes")
    assert refused.code == 5
    assert "3 messages went out" in refused.err
    assert "mailer cancel" in refused.err


def test_letters_have_books_of_their_own(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "-C", str(folder.path)]) == 0
    assert "letters" not in capsys.readouterr().out
    with Database(load(folder.path / "config.toml").paths.database, folder=folder.path) as database:
        database.open()
        with database.transaction() as connection:
            for subscriber_id in (1, 2, 3):
                letters.put(connection, subscriber_id, LetterKind.WELCOME, at=AT)
            sent, *_ = letters.claim(connection, limit=2, at=AT, hold=timedelta(minutes=15))
            letters.settle(connection, sent, Settled(1, DeliveryState.SENT, code=250, reply="taken"), at=AT)
    assert run(["status", "--json", "-C", str(folder.path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: number for name, number in found["letters"].items() if number} == {
        "audience": 3, "queued": 1, "sending": 1, "sent": 1,
    }  # fmt: skip
    assert run(["status", "-C", str(folder.path)]) == 0
    shown = capsys.readouterr().out.partition("\nletters\n")[2].split()
    assert " ".join(shown[:8]) == "audience 3 queued 1 sending 1 sent 1"
    assert run(["status", "1", "-C", str(folder.path)]) == 0
    assert "letters" not in capsys.readouterr().out


def test_table_has_every_issue_and_says_sending_only_while_a_process_sends(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["-C", str(folder.path)]
    with Database(load(folder.path / "config.toml").paths.database, folder=folder.path) as database:
        database.open()

        def state(issue: str) -> str:
            assert run(["status", *place]) == 0
            (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(issue))
            return line.split()[1]

        assert run(["new", "Spring", "--slug", "spring", *place]) == 0
        capsys.readouterr()
        assert state("002-spring") == "draft"
        assert state("001-hello") == "waiting"
        with database.transaction() as connection:
            control.retry(connection, 1, DeliveryState.FAILED, at=AT)
        assert state("001-hello") == "interrupted"
        with database.transaction() as connection:
            run_id = runs.begin(connection, 1, at=AT)
        assert state("001-hello") == "sending"
        assert run(["pause", "1", *place]) == 0
        assert "settles the messages under way, then stops" in capsys.readouterr().out
        with database.transaction() as connection:
            runs.end(connection, run_id, at=AT)
        assert state("001-hello") == "paused"


@pytest.mark.parametrize(
    ("before", "command", "said"),
    [
        ([], ["pause"], "001-hello: paused; to continue: mailer resume 001-hello"),
        ([["pause"]], ["pause"], "001-hello: is already paused (paused by the operator)"),
        ([["pause"]], ["resume"], "001-hello: resumed; to send the rest: mailer send 001-hello"),
        ([], ["resume"], "001-hello: was not paused; nothing changed"),
        ([], ["cancel", "--yes"], "001-hello: cancelled; 4 deliveries will not be sent"),
        (
            [["cancel", "--yes"]],
            ["cancel", "--yes"],
            "001-hello: was cancelled before; there is nothing to cancel",
        ),
        ([["cancel", "--yes"]], ["pause"], "001-hello: was cancelled before; there is nothing to pause"),
        ([["cancel", "--yes"]], ["resume"], "001-hello: was cancelled before; there is nothing to resume"),
        ([], ["retry", "--only", "uncertain"], "001-hello: no delivery is uncertain; nothing changed"),
        (
            [["cancel", "--yes"]],
            ["retry", "--only", "failed"],
            "001-hello: 2 deliveries queued again; the issue was cancelled; next: mailer send 001-hello",
        ),
        (
            [["pause"]],
            ["retry", "--only", "failed"],
            "001-hello: 2 deliveries queued again; the issue was paused; next: mailer resume 001-hello",
        ),
    ],
)
def test_message_fits_what_was_done_before(
    folder: Folder,
    capsys: pytest.CaptureFixture[str],
    before: list[list[str]],
    command: list[str],
    said: str,
) -> None:
    for name, *options in before:
        assert run([name, "1", *options, "-C", str(folder.path)]) == 0
    capsys.readouterr()
    assert run([command[0], "1", *command[1:], "-C", str(folder.path)]) == 0
    assert capsys.readouterr().out == f"{said}\n"


def test_finished_issue_is_sent_to_newcomers_only_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(tmp_path / "news")
    place = ["-C", str(folder.path)]

    def mailer(*arguments: str, code: int = 0) -> str:
        assert run([*arguments, *place]) == code
        return capsys.readouterr().out

    mailer("subscribers", "add", "ada@example.com", "--tag", "vip")
    mailer("send", "1", "--new-only", code=5)
    mailer("send", "1", "--to", "tag:vip", "--yes")
    mailer("subscribers", "add", "bo@example.com", "--tag", "vip")
    mailer("subscribers", "add", "cy@example.com")
    again = mailer("send", "1")
    assert re.match(r"001-short: finished on 20\S+ \S+, nothing to send; 1 subscribed since\n", again)
    assert "nothing was queued" in mailer("send", "1", "--new-only", "--dry-run")
    assert len(folder.kept()) == 1
    # The segment is still that of the first time.
    mailer("send", "1", "--new-only", "--yes")
    assert len(folder.kept()) == 2
    assert json.loads(mailer("status", "1", "--json"))["books"]["sent"] == 2
    assert "nobody has subscribed since; nothing was queued" in mailer("send", "1", "--new-only", "--yes")
    mailer("send", "1", "--new-only", "--to", "", "--yes")
    assert len(folder.kept()) == 2


def test_watching_shows_providers_and_speed(folder: Folder) -> None:
    settings = load(folder.path / "config.toml")
    screen = io.StringIO()
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt
        with database.transaction() as connection:
            # Someone whose mailbox is elsewhere is sent the issue between two looks.
            connection.execute(update(Subscriber).where(Subscriber.c.id == 1).values(domain="gmail.com"))
            connection.execute(update(Delivery).where(Delivery.c.subscriber_id == 1).values(state="sent"))

    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with Database(settings.paths.database, folder=folder.path) as database:
        with pytest.raises(KeyboardInterrupt):
            watch(database, settings, "1", console=console, wait=wait)
        ((only,),) = [look(database, settings, None)]
    assert waits[0] >= 2
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    first, _, second = shown.rpartition(only.slug)
    assert re.search(r"example\.org +20 +14 +4 +2", first)
    assert re.search(r"messages per second", second)
    assert re.search(r"example\.org +19 +14 +4 +1", second)
    assert re.search(r"google +1 +1 +0 +0", second)
    assert re.search(r"all +20 +15 +4 +1", second)
    assert [one.name for one in only.providers] == ["example.org", "google"]


def test_many_providers_are_added_up(folder: Folder) -> None:
    settings = load(folder.path / "config.toml")
    with Database(settings.paths.database, folder=folder.path) as database:
        with database.transaction() as connection:
            numbered = literal("host") + cast(Subscriber.c.id, String) + ".example"
            connection.execute(update(Subscriber).values(domain=numbered))
        with database.reading() as connection:
            found = largest(by_provider(connection, 1, {}), 3)
    assert [(one.name, one.recipients) for one in found] == [
        ("host1.example", 1),
        ("host10.example", 1),
        ("host11.example", 1),
        ("all others", 17),
    ]


@pytest.fixture
def unsent(tmp_path: Path) -> Folder:
    """A newsletter with a draft, 001-short, and an issue that is scheduled, 002-later."""
    made = Folder(tmp_path / "news")
    text = (made.path / "issues/001-short.md").read_text()
    (made.path / "issues/002-later.md").write_text(text)
    assert made.mailer("schedule", "2", "--at", "2099-12-04T08:00", "--zone", "UTC", "--yes").code == 0
    return made


COMMANDS = [
    ["status", "--list", "sent"],
    ["pause"],
    ["resume"],
    ["cancel", "--yes"],
    ["cancel"],
    ["withdraw", "--yes"],
    ["amend", "--yes"],
    ["retry", "--only", "failed"],
    ["stats"],
    ["stats", "--people", "sent"],
    ["ab", "show"],
]


def test_commands_for_queued_issues_name_a_draft_and_a_scheduled_issue(
    unsent: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in COMMANDS:
        for name in ("1", "001-short"):
            assert run([*command, name, "-C", str(unsent.path)]) == 1
            error = capsys.readouterr().err
            assert (
                "error: 001-short is a draft; it was never queued\n  next: mailer send 001-short\n" in error
            )
        assert run([*command, "2", "-C", str(unsent.path)]) == 1
        error = capsys.readouterr().err
        assert "error: 002-later is scheduled for 2099-12-04 " in error
        assert "next: mailer send 002-later, or: mailer schedule cancel 002-later\n" in error


def test_status_of_a_draft_names_its_file_and_what_to_do_next(
    unsent: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "1", "-C", str(unsent.path)]) == 0
    file = unsent.path / "issues/001-short.md"
    assert capsys.readouterr().out.splitlines() == [
        "001-short: a draft; nothing has been queued",
        f"  file: {file}",
        "  to check it: mailer lint 001-short",
        "  to send it: mailer send 001-short",
    ]
    assert run(["status", "1", "--json", "-C", str(unsent.path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["due_at"], found["file"]) == ("draft", None, str(file))


def test_status_of_a_scheduled_issue_says_when_it_is_due(
    unsent: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "002-later", "-C", str(unsent.path)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("002-later: scheduled for 2099-12-04 ")
    assert "  to cancel the schedule: mailer schedule cancel 002-later\n" in shown
    assert run(["status", "2", "--json", "-C", str(unsent.path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["due_at"]) == ("scheduled", "2099-12-04T08:00:00+00:00")


def test_a_number_that_two_drafts_begin_with_is_ambiguous(
    unsent: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    (unsent.path / "issues/001-other.md").write_text((unsent.path / "issues/001-short.md").read_text())
    assert run(["pause", "1", "-C", str(unsent.path)]) == 1
    assert "several issues begin with 1: 001-other, 001-short" in capsys.readouterr().err
    assert run(["pause", "001-other", "-C", str(unsent.path)]) == 1
    assert "001-other is a draft" in capsys.readouterr().err
