"""The numbers by mailbox provider, each with the address of the people behind it."""

from __future__ import annotations

import re

import pytest
from starlette.datastructures import QueryParams

from mailer.console.by_provider import Providers, provider_table
from mailer.console.markup import limited, pages

COLUMNS = {"Recipients": "/d?state=all", "Failed": "/d?state=failed"}


@pytest.mark.parametrize("names", [("google",), ("gmx and web.de", "a&b=c", "ä.example")])
@pytest.mark.parametrize("excluded", [False, True])
def test_choice_comes_back_from_its_address(names: tuple[str, ...], excluded: bool) -> None:
    chosen = Providers(names, excluded)
    assert Providers.asked(QueryParams(f"state=all&{chosen.query}&after=3")) == chosen


def test_address_without_a_choice_has_none() -> None:
    assert Providers.asked(QueryParams("state=all")) is None


def test_small_providers_are_one_row_of_all_others() -> None:
    rows = [(f"p{n}.example", (100 - n, n)) for n in range(10)] + [("", (7, 0))]
    html = provider_table(COLUMNS, rows)
    assert re.findall(r"<tr><td[^>]*>([^<]+)", html) == [*(f"p{n}.example" for n in range(8)), "all others"]
    every = [
        (target.replace("&amp;", "&"), text) for target, text in re.findall(r'href="([^"]+)">([^<]+)', html)
    ]
    assert every[0] == ("/d?state=all&provider=p0.example", "100")
    others = "&".join(f"not=p{n}.example" for n in range(8))
    assert every[-2:] == [(f"/d?state=all&{others}", "190"), (f"/d?state=failed&{others}", "17")]
    # Nobody is behind a zero.
    assert "/d?state=failed&provider=p0.example" not in [target for target, _ in every]


def test_list_says_what_limits_it_and_leads_to_its_other_pages() -> None:
    said = limited({"class=full": "full", "provider=a": "<a>"}, "/d?state=failed")
    assert "&lt;a&gt;" in said
    assert '<a href="/d?state=failed">Show all</a>' in said
    assert pages("/d?state=sent", 0, None) == ""
    assert re.findall('href="([^"]+)"', pages("/d?s=1", 0, 9)) == ["/d?s=1&amp;after=9"]
    assert re.findall('href="([^"]+)"', pages("/d?s=1", 9, None)) == ["/d?s=1"]
