"""The segment language: what it finds, where its errors point, and that nothing becomes SQL."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Compiled, insert, update
from sqlalchemy.dialects import sqlite

from mailer.address import parse_address
from mailer.audience.segments import parse_segment
from mailer.audience.subscribers import add
from mailer.audience.transfer import exporting
from mailer.audience.transitions import Origin
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, Event, Subscriber
from mailer.errors import ExitCode, SegmentError
from tests.bounces.reports import subscribe_all

AT = datetime(2026, 2, 1, tzinfo=UTC)
SAVED = {"locals": 'country = "RO" or country = "MD"', "loop": "@loop"}
EVERYBODY = ["ana", "bob", "cai"]


@pytest.fixture
def people(database: Database) -> Database:
    with database.transaction() as connection:
        for number, (local, domain, country, tags, points) in enumerate(
            [
                ("ana", "example.org", "RO", ["vip", "early bird"], 3),
                ("bob", "example.com", "US", [], 10),
                ("cai", "example.org", "MD", ["vip"], 7),
            ]
        ):
            add(
                connection,
                parse_address(f"{local}@{domain}"),
                secret=b"s" * 32,
                origin=Origin("command"),
                at=AT + timedelta(days=30 * number),
                name=local.capitalize(),
                attributes={
                    "country": country,
                    "points": points,
                    "beta": local == "ana",
                    "discount": {"ana": "10% off", "bob": "1/2 off", "cai": "two_off"}[local],
                    **({"Postal code": "010101", "vip": None} if local == "ana" else {}),
                },
                tags=tags,
            )
    return database


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tag:vip", ["ana", "cai"]),
        ('tag:"early bird"', ["ana"]),
        ("not tag:vip", ["bob"]),
        ("domain:example.org", ["ana", "cai"]),
        ('country = "RO"', ["ana"]),
        ('country != "RO"', ["bob", "cai"]),
        ("points >= 7", ["bob", "cai"]),
        ("points < 7", ["ana"]),
        ("points <= 7", ["ana", "cai"]),
        ("points <= 6", ["ana"]),
        ("points > 7", ["bob"]),
        ("points >= 8", ["bob"]),
        ('country <= "RO"', ["ana", "cai"]),
        ('country < "RO"', ["cai"]),
        ("joined <= 2026-02-01", ["ana"]),
        ("joined < 2026-02-01", []),
        ('name ~ "%"', []),
        ('name ~ "_"', []),
        ('name ~ "/"', []),
        ('discount ~ "0%"', ["ana"]),
        ('discount ~ "1%o"', []),
        ('discount ~ "_o"', ["cai"]),
        ("beta = true", ["ana"]),
        ('name ~ "A"', ["ana", "cai"]),
        ("joined > 2026-02-15", ["bob", "cai"]),
        ("@locals", ["ana", "cai"]),
        ("tag:vip and not (@locals and points > 5)", ["ana"]),
        ('tag:vip or country = "US"', EVERYBODY),
        ("tag:vip AND points > 5 OR domain:example.com", ["bob", "cai"]),
        ("status:active", EVERYBODY),
        ("opened:001-hello", []),
        ("not opened:001-hello", []),
        ("not clicked:001-hello or tag:vip", ["ana", "cai"]),
        ("not sent:001-hello", EVERYBODY),
        ('"Postal code" = "010101"', ["ana"]),
        ('"points" < 10', ["ana", "cai"]),
        ('"name" = "Ana"', []),
        ('"tag" != "vip"', EVERYBODY),
        ('has:"Postal code"', ["ana"]),
        ("has:country and not has:vip", EVERYBODY),
        ('missing = "x"', []),
        ('missing != "x"', EVERYBODY),
    ],
)
def test_finds(people: Database, text: str, expected: list[str]) -> None:
    condition = parse_segment(text, SAVED).condition
    with people.reading() as connection:
        found = [row["email"].partition("@")[0] for row in exporting.rows(connection, condition)]
        assert exporting.count(connection, condition) == len(expected)
    assert found == expected


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("tag:vip adn x = 1", 9),
        ("tag:", 5),
        ("country =", 10),
        ("colour:red", 1),
        ("tag:vip and @nobody", 14),
        ("status:sleeping", 8),
        ("joined > 5", 1),
        ("tag:vip and joined > 5", 13),
        ("tag:vip and colour:red", 13),
        ('tag:vip and tag = "red"', 13),
        ("joined > 2026-02-30", 10),
        ("@loop", 2),
        ("", 1),
        ('"a\\"b" = 1', 1),
        ('tag:vip and has:""', 17),
        ('name = "a\x00b"', 10),
        ('tag:"\ud800"', 6),
    ],
)
def test_error_points_at_the_column(text: str, column: int) -> None:
    with pytest.raises(SegmentError, match=f"^column {column}: ") as caught:
        parse_segment(text, SAVED)
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.message.splitlines()[2] == " " * (1 + column) + "^"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("country = RO", 'column 11: put text in quotes: "RO"'),
        ("name = 'Jo'", "column 8: use double quotes for text"),
        ("tag:a && tag:b", "column 7: write 'and' or 'or'"),
        ('country == "RO"', "column 10: write one '='"),
        ("tag:a and", "column 10: something is missing at the end"),
        ('tag = "vip"', "column 1: write 'tag' with a colon, such as tag:vip"),
        ('has = "x"', "column 1: write 'has' with a colon, such as has:country"),
        ("status:sleeping", "column 8: no status 'sleeping'; known: pending, active,"),
        ("tag:vip adn x = 1", "column 9: this is not allowed here"),
        ("tag:)", "column 5: this is not allowed here"),
        ("(tag:a", "column 7: something is missing at the end"),
        ("tag:a | tag:b", "column 7: write 'and' or 'or'"),
        ("tag:a = 1", "column 7: this is not allowed here"),
        ("joined:2026-01-01", "column 1: unknown label 'joined:'; known: tag, domain,"),
        ("@nobody", "column 2: no saved segment 'nobody' (known: locals, loop)"),
        ('"" = 1', "column 1: an attribute with such a name cannot be used"),
        ('"a\tb" = 1', "column 1: an attribute with such a name cannot be used"),
        ('"a\\"b" = 1', "column 1: an attribute with such a name cannot be used"),
        ('"a\\\\b" = 1', "column 1: an attribute with such a name cannot be used"),
        ('tag:a and has:""', "column 15: an attribute with such a name cannot be used"),
        ("tag:a\x00", "column 6: this character is not allowed"),
    ],
)
def test_common_mistake_gets_a_hint(text: str, reason: str) -> None:
    with pytest.raises(SegmentError, match=f"^{re.escape(reason)}"):
        parse_segment(text, SAVED)


@given(st.text(alphabet=st.characters(), max_size=60))
def test_any_text_is_a_segment_or_a_clear_error(text: str) -> None:
    try:
        segment = parse_segment(text, SAVED)
    except SegmentError:
        return
    assert segment.condition is not None


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40))
def test_values_are_bound_and_never_sql(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    hostile = _compiled(f'country = "{quoted}" and tag:"{quoted}"')
    assert value in hostile.params.values()
    assert str(hostile) == str(_compiled('country = "x" and tag:"x"'))


def _compiled(text: str) -> Compiled:
    return parse_segment(text, {}).condition.compile(dialect=sqlite.dialect())


def test_deep_nesting_is_refused_in_bounded_time() -> None:
    with pytest.raises(SegmentError, match="too deeply"):
        parse_segment("(" * 900 + "tag:a" + ")" * 900, {})


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("tag:" + "a" * 1_996, True),
        ("tag:" + "a" * 1_997, False),
        ("(" * 50 + "tag:a" + ")" * 50, True),
        ("(" * 51 + "tag:a" + ")" * 51, False),
        ("not " * 50 + "tag:a", True),
        ("NOT " * 51 + "tag:a", False),
        ("not (" * 25 + "tag:a" + ")" * 25, True),
        ("not (" * 25 + "not tag:a" + ")" * 25, False),
    ],
)
def test_segment_has_so_many_characters_and_levels(text: str, allowed: bool) -> None:
    if allowed:
        assert parse_segment(text, {}).text == text
    else:
        with pytest.raises(SegmentError) as caught:
            parse_segment(text, {})
        assert caught.value.message == f"the segment is too long or nested too deeply: {text[:60]}…"


@pytest.mark.parametrize(("segments", "allowed"), [(1, True), (5, True), (6, False), (50, False)])
def test_saved_segments_refer_to_each_other_five_deep(segments: int, allowed: bool) -> None:
    saved = {f"s{number}": f"@s{number + 1}" for number in range(segments - 1)}
    saved[f"s{segments - 1}"] = "tag:a"
    if allowed:
        assert parse_segment("@s0", saved).condition is not None
    else:
        with pytest.raises(SegmentError, match=r"^column 2: saved segments refer to each other in a loop"):
            parse_segment("@s0", saved)


def test_nobody_has_saved_a_segment() -> None:
    with pytest.raises(SegmentError, match=r"no saved segment 'x' \(known: none\)"):
        parse_segment("@x", {})


READERS = ["ana", "bob", "cai", "dan", "eva", "fay", "gus", "hal", "ida"]


@pytest.fixture
def readers(database: Database) -> Database:
    """Nine people who got two issues, and what they did with them."""
    subscribe_all(database, AT, [f"{name}@example.org" for name in READERS], issues=2)
    ids = {name: number for number, name in enumerate(READERS, 1)}
    did: list[tuple[str, str, int, dict[str, str]]] = [
        ("ana", "open", 1, {}),
        ("bob", "open", 1, {"machine": "proxy"}),
        ("cai", "click", 1, {}),
        ("fay", "open", 2, {}),
        ("ida", "open", 1, {}),
    ]
    with database.transaction() as connection:
        connection.execute(
            insert(Event),
            [
                {"at": AT, "kind": kind, "issue_id": issue, "subscriber_id": ids[name], "details": details}
                for name, kind, issue, details in did
            ],
        )
        agreed = update(Subscriber).where(Subscriber.c.id.in_([ids[one] for one in READERS if one != "dan"]))
        connection.execute(agreed.values(tracking_consent=True, tracking_since=AT - timedelta(days=1)))
        for name, since in (("eva", AT + timedelta(seconds=1)), ("gus", AT), ("hal", None)):
            this = update(Subscriber).where(Subscriber.c.id == ids[name])
            connection.execute(this.values(tracking_since=since))
        this = update(Subscriber).where(Subscriber.c.id == ids["ida"])
        connection.execute(this.values(tracking_consent=False, tracking_since=None))
        lost = update(Delivery).where(Delivery.c.subscriber_id == ids["bob"], Delivery.c.issue_id == 1)
        connection.execute(lost.values(state=DeliveryState.FAILED.value))
        gone = update(Delivery).where(Delivery.c.subscriber_id == ids["cai"], Delivery.c.issue_id == 2)
        connection.execute(gone.values(state=DeliveryState.SKIPPED.value))
    return database


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("opened:001", ["ana", "ida"]),
        ("opened:002", ["fay"]),
        ("clicked:001", ["cai"]),
        # Nobody can know of those who had not agreed when it was sent.
        ("not opened:001", ["bob", "cai", "fay", "gus", "hal"]),
        ("not clicked:001", ["ana", "bob", "fay", "gus", "hal"]),
        ("not opened:002", ["ana", "bob", "cai", "gus", "hal"]),
        ("sent:001", [name for name in READERS if name != "bob"]),
        ("not sent:001", ["bob"]),
        ("sent:002", [name for name in READERS if name != "cai"]),
        ("sent:003", []),
        ("opened:003", []),
        ("not opened:003", ["hal"]),
    ],
)
def test_finds_what_readers_did(readers: Database, text: str, expected: list[str]) -> None:
    with readers.reading() as connection:
        rows = exporting.rows(connection, parse_segment(text, {}).condition)
        assert [row["email"].partition("@")[0] for row in rows] == expected
