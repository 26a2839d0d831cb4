"""`mailer subscribers`, as an operator runs it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mailer.address import parse_address
from mailer.audience import preferences
from mailer.audience.ledger import unsubscribe
from mailer.audience.subscribers import add
from mailer.audience.transitions import Origin
from mailer.audience.wordings import version_of
from mailer.cli import run
from mailer.database.engine import Database
from mailer.errors import ExitCode

AT = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text("[segments]\nlocals = 'country = \"RO\"'\n", encoding="utf-8")
    (tmp_path / "people.csv").write_text(
        "email,name,country\nana@example.org,Ana,RO\nbob@example.org,Bob,US\nnobody,No,RO\n",
        encoding="utf-8",
    )
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["subscribers", *arguments]) == ExitCode.DONE
    return capsys.readouterr().out


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(said(capsys, *arguments, "--json"))
    assert told["version"] == 1
    return told


def test_import_prints_its_counts_and_can_be_reverted(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    told = answer(capsys, "import", "people.csv")
    assert (told["added"], told["rejected"], told["dry_run"]) == (2, 1, False)
    assert "nobody" in (folder / "people.csv.rejected.csv").read_text(encoding="utf-8")
    (listed,) = answer(capsys, "imports")["imports"]
    assert (listed["id"], listed["source"], listed["added"], listed["rejected"]) == (1, "people.csv", 2, 1)
    assert said(capsys, "imports").rstrip().endswith("people.csv: 2 added, 0 updated, 1 rejected")
    assert said(capsys, "revert", str(told["id"])) == "import 1: 2 subscribers removed\n"
    assert "reverted on 20" in said(capsys, "imports")
    assert said(capsys, "count") == "0\n"


def test_opt_outs_of_a_file_are_reported_and_reverted(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    said(capsys, "import", "people.csv")
    (folder / "out.csv").write_text(
        "email,status\nana@example.org,blocklisted\neve@example.org,blocklisted\nzoe@example.org,disabled\n",
        encoding="utf-8",
    )
    told = said(capsys, "import", "out.csv", "--preset", "listmonk", "--dry-run")
    assert "- ana@example.org  active\n+ ana@example.org  unsubscribed\n+ eve@example.org  unsubsc" in told
    assert told.splitlines()[-4:] == [
        "        0  added",
        "        1  kept out: opted out, bounced, complained or erased before, or never confirmed",
        "        1  recorded as opted out: unknown here, so no later file can add them",
        "        1  unsubscribed: active here, but opted out in the file",
    ]
    done = answer(capsys, "import", "out.csv", "--preset", "listmonk")
    assert (done["opted_out"], done["taken_off"], done["left_alone"], done["kept_out"]) == (1, 1, 0, 1)
    assert said(capsys, "count", "--where", "status:active") == "1\n"
    assert answer(capsys, "revert", str(done["id"])) == {
        "version": 1, "import": done["id"], "removed": 1, "restored": 1,
    }  # fmt: skip
    assert said(capsys, "count", "--where", "status:active") == "2\n"


def test_dry_run_and_strict_leave_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "import", "people.csv", "--dry-run")["added"] == 2
    assert run(["subscribers", "import", "people.csv", "--strict"]) == ExitCode.REFUSED
    capsys.readouterr()
    assert said(capsys, "count") == "0\n"


def test_where_takes_saved_segments(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "import", "people.csv")
    assert said(capsys, "count", "--where", "@locals") == "1\n"
    (row,) = answer(capsys, "list", "--where", "not @locals")["subscribers"]
    assert row["email"] == "bob@example.org"


def test_wrong_segment_is_a_usage_error_with_a_caret(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["subscribers", "count", "--where", "tag:vip adn x = 1"]) == ExitCode.USAGE
    assert "column 9" in capsys.readouterr().err


def test_export_writes_a_private_file(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    said(capsys, "add", "eve@example.org", "--name", "=cmd()", "--tag", "vip", "--attribute", "city=Iași")
    said(capsys, "export", "-o", "out.csv")
    written = (folder / "out.csv").read_text(encoding="utf-8").splitlines()
    assert written[0] == "email,name,status,tags,joined,city"
    assert written[1].startswith("eve@example.org,'=cmd(),active,vip,")
    assert written[1].endswith(",Iași")
    assert said(capsys, "export", "--no-flat").startswith("email,name,status,tags,joined,attributes\r\n")
    assert (folder / "out.csv").stat().st_mode & 0o777 == 0o600
    one = json.loads(said(capsys, "export", "--format", "jsonl"))
    assert (one["tags"], one["attributes"]) == (["vip"], {"city": "Iași"})


def test_list_has_a_header_and_columns_to_choose(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "add", "ana@example.org", "--name", "Ana", "--tag", "vip", "--attribute", "city=Iași")
    said(capsys, "add", "longer@example.org", "--name", "山田")
    assert said(capsys, "list").splitlines() == [
        "status  email               name  tags",
        "active  ana@example.org     Ana   vip",
        "active  longer@example.org  山田",
    ]
    assert said(capsys, "list", "--columns", "name, city,email").splitlines() == [
        "name  city  email",
        "Ana   Iași  ana@example.org",
        "山田        longer@example.org",
    ]


def test_details_are_edited(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "add", "ana@exmaple.org", "--name", "Ana", "--attribute", "city=Iași")
    told = answer(
        capsys, "edit", "ana@exmaple.org", "--name", "Ana Pop", "--address", "Ana@example.org",
        "--attribute", "country=RO", "--remove-attribute", "city",
    )  # fmt: skip
    assert (told["address"], told["name"], told["attributes"]) == (
        "Ana@example.org",
        "Ana Pop",
        {"country": "RO"},
    )
    assert run(["why", "ana@example.org"]) == ExitCode.DONE
    assert "address changed from ana@exmaple.org" in capsys.readouterr().out


def test_address_of_somebody_else_or_of_somebody_erased_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for address in ("ana@example.org", "bob@example.org", "eve@example.org"):
        said(capsys, "add", address)
    said(capsys, "erase", "eve@example.org", "--yes")
    for taken in ("bob@example.org", "eve@example.org"):
        assert run(["subscribers", "edit", "ana@example.org", "--address", taken]) == ExitCode.REFUSED
    assert "ana@example.org" in said(capsys, "list")


def test_tags_are_added_and_removed(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "add", "ana@example.org", "--tag", "old")
    assert said(capsys, "tag", "ana@example.org", "vip", "old", "new") == "ana@example.org: +new +vip\n"
    assert said(capsys, "untag", "ana@example.org", "old", "none") == "ana@example.org: -old\n"
    assert said(capsys, "untag", "ana@example.org", "old") == "ana@example.org: unchanged\n"
    (row,) = answer(capsys, "list")["subscribers"]
    assert row["tags"] == ["new", "vip"]


def test_removal_is_undone_and_a_complaint_is_not(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    said(capsys, "add", "ana@example.org")
    said(capsys, "remove", "ana@example.org", "--yes")
    restored = said(capsys, "restore", "ana@example.org", "--reason", "wrong Ana")
    assert restored == "ana@example.org: active again\n"
    assert run(["why", "ana@example.org"]) == ExitCode.DONE
    assert "wrong Ana" in capsys.readouterr().out
    (folder / "out.csv").write_text("email,status\nana@example.org,complained\n", encoding="utf-8")
    said(capsys, "import", "out.csv", "--preset", "mailer")
    assert run(["subscribers", "restore", "ana@example.org", "--reason", "x"]) == ExitCode.REFUSED
    assert "complain" in capsys.readouterr().err


def test_removed_address_cannot_be_added_again(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "add", "ana@example.org")
    assert said(capsys, "remove", "Ana@Example.org", "--yes") == "Ana@example.org: unsubscribed\n"
    assert run(["subscribers", "add", "ana@example.org"]) == ExitCode.REFUSED


def test_removing_asks_first(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "add", "ana@example.org")
    assert run(["subscribers", "remove", "ana@example.org"]) == ExitCode.REFUSED
    assert "add --yes when there is no terminal" in capsys.readouterr().err
    assert said(capsys, "count", "--where", "status:active") == "1\n"


def test_erasing_asks_first_and_then_forgets(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "add", "ana@example.org")
    assert run(["subscribers", "erase", "ana@example.org"]) == ExitCode.REFUSED
    capsys.readouterr()
    assert said(capsys, "count") == "1\n"
    assert answer(capsys, "erase", "ana@example.org", "--yes")["known"] is True
    assert said(capsys, "count") == "0\n"
    assert run(["subscribers", "add", "ana@example.org"]) == ExitCode.REFUSED


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"who,where\nx,y\n", "--map email=COLUMN; the columns are: who, where"),
        (b"email\n\x81\x8d@x.org\n", "cannot be decoded"),
    ],
)
def test_file_that_cannot_be_imported_is_explained(
    capsys: pytest.CaptureFixture[str], folder: Path, content: bytes | None, told: str
) -> None:
    if content is not None:
        (folder / "odd.csv").write_bytes(content)
    assert run(["subscribers", "import", "odd.csv"]) == ExitCode.FAILURE
    assert told in capsys.readouterr().err


def test_columns_are_named_by_flags_and_by_the_configuration(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    (folder / "crm.csv").write_text(
        "Kontakt,Land,Notiz,Stand\nana@example.org,RO,x,\neve@example.org,RO,x,weg\n", encoding="utf-8"
    )
    told = said(capsys, "import", "crm.csv", "--map", "email=Kontakt", "--skip", "Notiz", "--dry-run")
    assert told.splitlines()[-1] == "        2  added"
    (folder / "config.toml").write_text(
        '[imports.crm]\nemail = "Kontakt"\nskip = ["Notiz"]\nstatus = "Stand"\nunsubscribed = ["weg"]\n',
        encoding="utf-8",
    )
    told = said(capsys, "import", "crm.csv", "--preset", "crm", "--map", "country=Land")
    assert "1  added" in told
    assert "1  recorded as opted out" in told
    assert said(capsys, "count", "--where", 'country = "RO" and not has:Notiz') == "1\n"


def test_unknown_preset_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["subscribers", "import", "people.csv", "--preset", "sendy"]) == ExitCode.USAGE
    assert "no preset 'sendy'; available: mailer, mailchimp, listmonk" in capsys.readouterr().err


def test_unknown_import_names_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["subscribers", "revert", "7"]) == ExitCode.FAILURE
    assert "there is no import 7" in capsys.readouterr().err


def test_every_answer_can_be_had_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    added = answer(capsys, "add", "Eve@example.org", "--tag", "vip")
    assert (added["id"], added["address"], added["outcome"]) == (1, "Eve@example.org", "added")
    told = answer(capsys, "import", "people.csv")
    assert answer(capsys, "count", "--where", "tag:vip")["count"] == 1
    assert answer(capsys, "remove", "eve@example.org", "--yes")["changed"] is True
    assert answer(capsys, "remove", "eve@example.org", "--yes")["changed"] is False
    assert answer(capsys, "revert", str(told["id"]))["removed"] == 2


def test_dry_run_shows_what_would_change(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    said(capsys, "import", "people.csv")
    (folder / "people.csv").write_text("email,name,country\nana@example.org,Ana,MD\n", encoding="utf-8")
    shown = said(capsys, "import", "people.csv", "--dry-run").splitlines()
    assert shown[1:3] == ["- ana@example.org  Ana  country=RO", "+ ana@example.org  Ana  country=MD"]
    assert said(capsys, "count", "--where", 'country = "MD"') == "0\n"


def test_reasons_of_leaving_are_counted(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    said(capsys, "import", "people.csv")
    told = answer(capsys, "reasons")
    assert (told["left"], told["reasons"], told["none_given"]) == (0, {}, 0)
    said(capsys, "add", "eve@example.org")
    # The operator's own removals are not counted.
    said(capsys, "remove", "eve@example.org", "--yes")
    database = Database("sqlite:///subscribers.db", folder=folder)
    with database.transaction() as connection:
        for subscriber_id, note in ((1, preferences.reason_note("too-many")), (2, "")):
            unsubscribe(connection, subscriber_id, origin=Origin("page", note=note), at=AT)
    database.engine.dispose()
    told = answer(capsys, "reasons")
    assert (told["left"], told["reasons"], told["none_given"]) == (2, {"too-many": 1}, 1)
    assert said(capsys, "reasons").splitlines() == [
        "2 people unsubscribed",
        "        1  too-many",
        "        1  none given",
    ]


def test_form_is_printed_for_an_external_page(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "config.toml").write_text(
        '[newsletter]\nname = "A < B"\n[web]\npublic_url = "https://letters.example.org"\n', encoding="utf-8"
    )
    told = said(capsys, "form", "--language", "de")
    assert told.startswith('<form method="post" action="https://letters.example.org/subscribe"')
    assert "A &lt; B" in told
    assert "Abonnieren" in told
    assert "Subscribe" in said(capsys, "form")


def test_why_shows_what_was_agreed_to(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    database = Database("sqlite:///subscribers.db", folder=folder)
    database.open()
    origin = Origin("form", ip="192.0.2.4", form="confirm", wording="Do you want it?\nYes")
    with database.transaction() as connection:
        address = parse_address("jo@example.org")
        add(connection, address, secret=b"s" * 32, origin=origin, at=datetime(2026, 3, 4, 5, 6, tzinfo=UTC))
    database.close()
    assert run(["why", "jo@example.org"]) == ExitCode.DONE
    assert capsys.readouterr().out.splitlines() == [
        "jo@example.org: active",
        "  2026-03-04 05:06  status        active by form",
    ]
    assert run(["why", "jo@example.org", "--verbose"]) == ExitCode.DONE
    assert [line.strip() for line in capsys.readouterr().out.splitlines()[2:]] == [
        "from 192.0.2.4",
        f"form 'confirm', version {version_of(origin.wording)}",
        "| Do you want it?",
        "| Yes",
    ]
