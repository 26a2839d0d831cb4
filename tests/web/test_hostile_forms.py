"""Forms from attackers: any body is answered in bounded time, without a failure."""

from __future__ import annotations

import time

import pytest

from mailer.database.engine import Database
from mailer.web.shield import MAX_BODY_OCTETS
from tests.web.conftest import OpenSite, Site

MOST = MAX_BODY_OCTETS


def part(name: str = "a", value: bytes = b"x", more: bytes = b"") -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="%b"\r\n%b\r\n%b\r\n' % (name.encode(), more, value)


def filled(piece: bytes) -> bytes:
    """Return as much of a piece as a body may hold."""
    return (piece * (MOST // len(piece) + 1))[: MOST - 8] + b"\r\n--x--"


BODIES = {
    "blanks": b" " * MOST,
    "ampersands": b"&" * MOST,
    "equals": b"a=" * (MOST // 2),
    "percents": b"%" * MOST,
    "percent signs that decode to nothing": b"a=" + b"%ff" * (MOST // 3 - 1),
    "many parts": filled(part()),
    "empty parts": filled(b"--x\r\n\r\n\r\n"),
    "boundaries": filled(b"--x\r\n"),
    "half boundaries": filled(b"\r\n--"),
    "dashes": b"-" * MOST,
    "a long name": part("a" * (MOST - 200)) + b"--x--",
    "a long header": part(more=b"X: " + b"y" * (MOST - 200) + b"\r\n") + b"--x--",
    "many headers": part(more=b"X: y\r\n" * (MOST // 6 - 30)) + b"--x--",
    "a folded header": part(more=b"X: y\r\n" + b" z\r\n" * (MOST // 4 - 40)) + b"--x--",
    "semicolons": b"--x\r\nContent-Disposition: form-data" + b";" * (MOST - 60) + b"\r\n\r\n\r\n--x--",
    "nested": filled(b'--x\r\nContent-Type: multipart/mixed; boundary="x"\r\n\r\n'),
    "no end": part() * 3,
    "files": filled(part(more=b'Content-Disposition: form-data; name="a"; filename="b"\r\n')),
    "NUL": b"email=\0&name=\0&website=",
    "surrogates": b"email=%ED%A0%80&name=%ED%A0%80",
}
TYPES = (
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "multipart/form-data; boundary=" + "x" * 5_000,
    "multipart/mixed",
    "multipart/form-data; boundary=x; charset=nope",
    "application/x-www-form-urlencoded; charset=utf-16",
    "",
)


@pytest.fixture(scope="module")
def seconds() -> float:
    """How long an answer may take, on a machine with much else to do."""
    return 3.0


@pytest.mark.parametrize("kind", TYPES)
def test_any_body_is_answered_in_time(site: Site, seconds: float, kind: str) -> None:
    subscriber = site.subscribe()
    token = site.link(subscriber)
    for name, body in BODIES.items():
        for path in (f"/u/{token}", f"/p/{token}", "/subscribe"):
            begun = time.monotonic()
            answer = site.client.post(path, content=body, headers={"Content-Type": kind})
            taken = time.monotonic() - begun
            assert (name, path, answer.status_code in (400, 413, 429)) == (name, path, True)
            assert (name, path, taken < seconds) == (name, path, True)
    assert site.status(subscriber) == "active"


def test_connections_that_a_restarted_database_has_cut_are_replaced(
    open_site: OpenSite, postgresql_url: str
) -> None:
    """The first request after a restart is answered like any other."""
    with open_site(url=postgresql_url) as site, Database(postgresql_url) as other:
        for _ in range(2):
            assert site.client.get("/healthz").status_code == 200
            assert site.client.post("/subscribe", data={"email": "jo@example.org"}).status_code == 200
            site.letters(1)
            with other.engine.connect() as connection:
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
