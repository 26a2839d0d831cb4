"""Token links after mail programs have wrapped, quoted or lower-cased them."""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailer.config import Tracking
from mailer.web.links import repaired
from tests.web.conftest import OpenSite, edition

TOKEN = "01070301f4a2c09be1d5773e0b6f8c1d"
TAILS = [
    "/",
    ">",
    ".",
    ")",
    ",",
    ";",
    "!",
    "?",
    "'",
    '"',
    "]",
    "}",
    " ",
    "\u00a0",
    ">.",
    ")>",
    "/.",
    "\r\n",
    "=",
]
FOLDS = [" ", "\r\n ", "=\r\n", "\t", "\u200b", "\u00ad"]


@given(
    prefix=st.sampled_from(["u", "p", "v", "confirm"]),
    upper=st.booleans(),
    tail=st.lists(st.sampled_from(TAILS), max_size=4).map("".join),
    fold=st.sampled_from(["", *FOLDS]),
    at=st.integers(1, len(TOKEN) - 1),
)
@example(prefix="u", upper=False, tail="/", fold="", at=1)
def test_what_surrounds_and_folds_a_link_is_taken_away(
    prefix: str, upper: bool, tail: str, fold: str, at: int
) -> None:
    path = f"/{prefix}/{TOKEN[:at]}{fold}{TOKEN[at:]}{tail}"
    assert repaired(path.upper() if upper else path).lower() == f"/{prefix}/{TOKEN}"


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/C/token/12.", "/c/token/12"),
        ("/O/Token.GIF>", "/o/Token.gif"),
        ("/P/token/DATA/", "/p/token/data"),
        ("/V/token/Image.PNG)", "/v/token/image.png"),
        ("//u/token", "/u/token"),
        ("/u/", "/u/"),
        ("/u/...", "/u/"),
    ],
)
def test_link_is_repaired(path: str, right: str) -> None:
    assert repaired(path) == right


@given(st.text(string.printable + "äß\u200b\x00", max_size=60).map(lambda rest: f"/{rest}"))
def test_repairing_is_idempotent_and_leaves_other_paths_alone(path: str) -> None:
    assert repaired(repaired(path)) == repaired(path)
    if path.split("/")[1:2] not in [[name] for name in ("u", "p", "v", "c", "o", "confirm", "")]:
        assert path[1:2].lower() in "upvco" or repaired(path) == path


@pytest.mark.parametrize("tail", ["/", "%3E", ".", ")", "%20", "%20.", "%0D%0A", "=%0D%0A"])
@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_mangled_links_work(open_site: OpenSite, tail: str, spelling: type[str]) -> None:
    with open_site(tracking=Tracking(opens=True, clicks=True)) as site:
        subscriber = site.subscribe()
        token = spelling(site.link(subscriber, site.issue(edition())))
        folded = f"{token[:9]}%0D%0A%20{token[9:]}"
        for written in (token, folded):
            assert site.client.get(f"/u/{written}{tail}").status_code == 200
            assert site.client.get(f"/p/{written}{tail}").status_code == 200
            assert site.client.get(f"/v/{written}{tail}").status_code == 200
            assert site.client.get(f"/c/{written}/0{tail}").status_code == 302
            assert site.client.get(f"/o/{written}.gif{tail}").status_code == 200
        private = site.client.get(f"/U/{token}{tail}").headers
        assert (private["cache-control"], private["x-robots-tag"]) == ("no-store", "noindex, nofollow")
        assert site.status(subscriber) == "active"
        posted = site.client.post(f"/u/{token}{tail}", data={"List-Unsubscribe": "One-Click"})
        assert (posted.status_code, site.status(subscriber)) == (200, "unsubscribed")


@pytest.mark.parametrize(
    "path",
    [
        "/c/x/" + "9" * 5_000,
        "/c/{}/" + "9" * 5_000,
        "/c/{}/-1",
        "/c/{}/%D9%A1",
        "/archive/%00",
        "/archive/a%00b/c.png",
        "/archive/007-spring/%00",
        "/archive/%FF",
        "/archive/%F0%90%80",
        "/u/%00",
        "/p/{}%00/data",
        "/confirm/%00",
        "/o/%00.gif",
        "/static/%00",
        "/feed.xml%00",
        "/u/" + quote("é" * 500),
        "/u/" + "a" * 5_000,
    ],
)
def test_odd_paths_are_not_found_on_either_database(
    open_site: OpenSite, postgresql_url: str, path: str
) -> None:
    for url in ("sqlite:///subscribers.db", postgresql_url):
        with open_site(url=url) as site:
            token = site.link(site.subscribe(), site.issue(edition()))
            answer = site.client.get(path.replace("{}", token))
            assert (url, answer.status_code) == (url, 404)
