"""A WebSub hub is notified when the feeds change, in bounded time, and again after a failure."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from lxml import etree
from sqlalchemy import update

from mailer.cli import run
from mailer.config import Settings, Web
from mailer.database.tables import IssueState, StoredIssue
from mailer.errors import ExitCode
from mailer.tasks import Tasks
from mailer.web import posting
from mailer.web.public.editions import Editions
from mailer.web.public.hub import MAX_WAIT_SECONDS, HubNotifier, notifying
from tests.web.conftest import OpenSite, Site, edition

PUBLIC_URL = "https://news.example.org"
FEEDS = [f"{PUBLIC_URL}{path}" for path in ("/feed.xml", "/rss.xml", "/feed.json")]


class Hub:
    """A hub on this machine that answers with `status`."""

    def __init__(self) -> None:
        self.status = 204
        self.told: list[dict[str, list[str]]] = []
        self.url = ""

    @property
    def topics(self) -> list[str]:
        assert all(one["hub.mode"] == ["publish"] for one in self.told)
        return [one["hub.url"][0] for one in self.told]


@contextmanager
def running_hub() -> Iterator[Hub]:
    made = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            assert self.headers["content-type"] == "application/x-www-form-urlencoded"
            made.told.append(parse_qs(body, strict_parsing=True))
            self.send_response(made.status)
            self.send_header("location", f"{made.url}elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def notifier(site: Site, url: str, clock: Callable[[], float] = time.monotonic) -> HubNotifier:
    return HubNotifier(url, PUBLIC_URL, Editions(site.database), clock=clock, timeout_seconds=5.0)


def test_each_feed_is_announced_once_for_each_change(site: Site) -> None:
    with running_hub() as made:
        looking = notifier(site, made.url)
        looking.look()
        assert made.told == []
        site.issue(edition("007-spring"))
        looking.look()
        looking.look()
        assert made.topics == FEEDS
        site.issue(edition("008-summer"))
        site.issue(edition("009-vip"), segment="tag:vip")
        looking.look()
        looking.look()
        assert made.topics == FEEDS * 2


def test_cancelled_issue_is_a_change_and_unpublished_ones_are_none(site: Site) -> None:
    with running_hub() as made:
        looking = notifier(site, made.url)
        site.issue(edition("007-spring"), published_at=None)
        looking.look()
        assert made.told == []
        other = site.issue(edition("008-summer"))
        looking.look()
        with site.database.transaction() as connection:
            connection.execute(
                update(StoredIssue).where(StoredIssue.c.id == other).values(state=IssueState.CANCELLED)
            )
        looking.look()
        assert made.topics == FEEDS * 2


@pytest.mark.parametrize("status", [307, 404, 503])
def test_refusal_is_tried_again_less_and_less_often(
    site: Site, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    site.issue(edition())
    clock = Clock()
    with running_hub() as made:
        made.status = status
        looking = notifier(site, made.url, clock)
        times: list[float] = []
        for _ in range(24 * 60):
            before = len(made.told)
            looking.look()
            if len(made.told) > before:
                times.append(clock.now)
            clock.now += 60.0
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert gaps[:5] == [60, 120, 240, 480, 960]
        assert set(gaps[6:]) == {MAX_WAIT_SECONDS}
        assert f"responded with {status}" in caplog.text
        # A redirect is a refusal too: nothing but the configured address is contacted.
        assert set(made.topics) == {FEEDS[0]}
        made.status, clock.now = 202, clock.now + MAX_WAIT_SECONDS
        made.told.clear()
        looking.look()
        assert made.topics == FEEDS


def test_hub_that_does_not_answer_takes_bounded_time(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.issue(edition())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        looking = HubNotifier(url, PUBLIC_URL, Editions(site.database), timeout_seconds=0.2)
        began = time.monotonic()
        looking.look()
        assert time.monotonic() - began < 10
    assert "no response within 0.2 s" in caplog.text


@pytest.mark.parametrize("private", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1"])
def test_name_that_leads_to_a_private_address_is_refused(
    site: Site, private: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.issue(edition())
    monkeypatch.setattr(posting, "addresses_of", lambda host, port: [private])
    with running_hub() as made:
        notifier(site, made.url.replace("127.0.0.1", "hub.example")).look()
        assert made.told == []
    assert f"hub.example is {private}, which is not a public address" in caplog.text


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://name.invalid/"])
def test_hub_that_is_away_stops_nothing(site: Site, url: str, caplog: pytest.LogCaptureFixture) -> None:
    site.issue(edition())
    notifier(site, url).look()
    assert f"WebSub hub {url}: " in caplog.text
    assert "Errno" not in caplog.text


def test_serving_notifies_the_hub(site: Site) -> None:
    site.issue(edition())
    with running_hub() as made:
        settings = Settings(web=Web(public_url=PUBLIC_URL, hub=made.url))
        with notifying(settings, site.database, Tasks()):
            until = time.monotonic() + 60
            while len(made.told) < len(FEEDS) and time.monotonic() < until:
                time.sleep(0.01)
        assert made.topics == FEEDS
    tasks = Tasks()
    with notifying(Settings(), site.database, tasks):
        assert tasks.health() == []


def test_feeds_name_the_hub_and_themselves(open_site: OpenSite) -> None:
    address = "https://hub.example.org/?a=1&b=2"
    with open_site(hub=address) as site:
        site.issue(edition())
        links = {
            path: {
                str(one.get("rel")): one.get("href")
                for one in etree.fromstring(site.client.get(path).content).iter(
                    "{http://www.w3.org/2005/Atom}link"
                )
                if one.get("rel") in ("hub", "self")
            }
            for path in ("/feed.xml", "/rss.xml")
        }
        assert links == {path: {"hub": address, "self": PUBLIC_URL + path} for path in links}
        rss = etree.fromstring(site.client.get("/rss.xml").content)
        assert rss.findtext("channel/link") == f"{PUBLIC_URL}/archive/"
        feed = json.loads(site.client.get("/feed.json").content)
        assert feed["hubs"] == [{"type": "WebSub", "url": address}]
        schema = etree.RelaxNG(etree.parse(Path(__file__).with_name("atom.rng")))
        assert schema.validate(etree.fromstring(site.client.get("/feed.xml").content)), schema.error_log


def test_feeds_name_no_hub_without_one(site: Site) -> None:
    site.issue(edition())
    for path in ("/feed.xml", "/rss.xml", "/feed.json"):
        content = site.client.get(path).content
        assert (b'"hub"' in content, b'"hubs"' in content) == (False, False)


@pytest.mark.parametrize("value", ["hub.example.org", "ftp://hub.example", "https://", "https://hub:99999/"])
def test_wrong_address_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    (tmp_path / "config.toml").write_text(f'[web]\nhub = "{value}"\n')
    assert run(["config", "show", "-C", str(tmp_path)]) == ExitCode.CONFIGURATION
    assert "config.toml:2: 'web.hub': it must be an address such as" in capsys.readouterr().err
