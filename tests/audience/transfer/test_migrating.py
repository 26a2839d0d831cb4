"""The guides for those who come from elsewhere: each shows a file, and that file is imported as it says."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mailer.audience.transfer import exporting
from mailer.audience.transfer.importing import ImportReport, import_file
from mailer.audience.transfer.presets import PRESETS
from mailer.database.engine import Database

GUIDES = Path(__file__).parents[3] / "docs" / "migrate"
SECRET = b"s" * 32


def bring(database: Database, folder: Path, content: str, preset: str, at: datetime) -> ImportReport:
    path = folder / "export.csv"
    path.write_text(content, encoding="utf-8")
    return import_file(database, path, secret=SECRET, at=at, preset=PRESETS[preset])


def sample(service: str) -> str:
    found = re.search(r"```csv\n(.*?)```", (GUIDES / f"{service}.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize(
    ("service", "opted_out", "name", "tags", "attributes"),
    [
        (
            "mailchimp",
            0,
            "Ana Pop",
            ["early bird", "vip"],
            {"CC": "RO", "REGION": "CJ", "MEMBER_RATING": "4", "TIMEZONE": "Europe/Bucharest"},
        ),
        ("listmonk", 1, "Ana Pop", [], {"city": "Cluj", "age": 41}),
        ("substack", 1, "", [], {"active_subscription": "true", "plan": "yearly"}),
    ],
)
def test_sample_of_the_guide_is_imported(
    database: Database,
    tmp_path: Path,
    at: datetime,
    service: str,
    opted_out: int,
    name: str,
    tags: list[str],
    attributes: dict[str, Any],
) -> None:
    report = bring(database, tmp_path, sample(service), service, at)
    assert (report.added, report.opted_out, report.rejected) == (2, opted_out, 0)
    with database.reading() as connection:
        everybody = list(exporting.rows(connection, None))
    ana, bob = (row for row in everybody if row["status"] == "active")
    assert (ana["email"], ana["name"], ana["tags"]) == ("ana@example.org", name, tags)
    assert attributes.items() <= ana["attributes"].items()
    assert not {"LEID", "EUID", "CONFIRM_IP", "uuid", "created_at" if service == "listmonk" else ""} & set(
        ana["attributes"]
    )
    assert bob["email"] == "bob@example.org"
    assert [row["email"] for row in everybody if row["status"] == "unsubscribed"] == [
        "eve@example.org"
    ] * opted_out


@pytest.mark.parametrize(
    ("service", "content"),
    [
        (
            "mailchimp",
            "Email Address,First Name,Last Name,LEID,EUID,NOTES,TAGS,UNSUB_TIME,UNSUB_CAMPAIGN_TITLE,"
            "UNSUB_CAMPAIGN_ID,UNSUB_REASON,UNSUB_REASON_OTHER\n"
            "eve@example.org,Eve,,1,a,,,2024-01-05 10:00:00,Spring,77,NORMAL,\n",
        ),
        (
            "mailchimp",
            "Email Address,First Name,Last Name,LEID,EUID,CLEAN_TIME,CLEAN_CAMPAIGN_TITLE,CLEAN_CAMPAIGN_ID\n"
            "eve@example.org,Eve,,1,a,2024-01-05 10:00:00,Spring,77\n",
        ),
        (
            "ghost",
            "id,email,name,note,subscribed_to_emails,complimentary_plan,stripe_customer_id,created_at,"
            "deleted_at,labels,tiers\n6f,eve@example.org,Eve,,false,false,,2024-01-05T10:00:00.000Z,,,\n",
        ),
    ],
)
def test_opted_out_person_is_never_added(
    database: Database, tmp_path: Path, at: datetime, service: str, content: str
) -> None:
    report = bring(database, tmp_path, content, service, at)
    assert (report.added, report.opted_out) == (0, 1)
