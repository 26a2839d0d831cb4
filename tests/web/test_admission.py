"""Who may ask to be on the list, and how often; and what is believed of where a request comes from."""

from __future__ import annotations

import logging

import pytest

from mailer.address import Address, parse_address
from mailer.audience.subscribers import find, history
from mailer.config import SignUp
from mailer.web.public.admission import A_ROLE, NOT_KEPT, Admission
from tests.web.conftest import OpenSite, Site


@pytest.mark.parametrize(
    ("rules", "address", "problem"),
    [
        (SignUp(), "info@example.org", ""),
        (SignUp(), "jo@mailinator.com", ""),
        (SignUp(roles=False), "info@example.org", A_ROLE),
        (SignUp(roles=False), "Sales+news@example.org", A_ROLE),
        (SignUp(roles=False), "information@example.org", ""),
        (SignUp(disposable=False), "jo@mailinator.com", NOT_KEPT),
        (SignUp(disposable=False), "jo@mx.mailinator.com", NOT_KEPT),
        (SignUp(disposable=False), "jo@gmail.com", ""),
        (SignUp(refused_domains=("Bücher.example",)), "jo@xn--bcher-kva.example", NOT_KEPT),
        (SignUp(refused_domains=("example.com",)), "jo@notexample.com", ""),
    ],
)
def test_address_may_sign_up_or_not(rules: SignUp, address: str, problem: str) -> None:
    local, _, domain = address.rpartition("@")
    assert Admission(rules).problem(Address(local, domain)) == problem


@pytest.mark.parametrize(
    ("language", "told"), [("en", "belongs to a role"), ("de", "gehört zu einer Funktion")]
)
def test_form_says_why_an_address_is_not_taken(open_site: OpenSite, language: str, told: str) -> None:
    with open_site(signup=SignUp(roles=False)) as site:
        answer = site.client.post(
            "/subscribe", data={"email": "info@example.org"}, headers={"accept-language": language}
        )
        assert answer.status_code == 400
        assert told in answer.text
        assert 'value="info@example.org"' in answer.text
        assert 'aria-invalid="true"' in answer.text
        with site.database.reading() as connection:
            assert find(connection, parse_address("info@example.org")) is None


def test_configured_limits_apply_and_are_logged_once(
    open_site: OpenSite, caplog: pytest.LogCaptureFixture
) -> None:
    with open_site(signup=SignUp(per_client=100, per_domain=2, in_all=3)) as site:
        with caplog.at_level(logging.WARNING, "mailer.web.public.admission"):
            asked = [f"n{n}@example.{top}" for top in ("org", "com") for n in range(4)]
            codes = [site.client.post("/subscribe", data={"email": one}).status_code for one in asked]
        assert codes == [200, 200, 429, 429, 200, 429, 429, 429]
        assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
            "more than 2 an hour at example.org; see [signup] per_domain in config.toml",
            "more than 3 an hour in all; see [signup] in_all in config.toml",
            "more than 2 an hour at example.com; see [signup] per_domain in config.toml",
        ]


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        pytest.param("192.0.2.4", "192.0.2.4", 429, id="same IPv4 address"),
        pytest.param("192.0.2.4", "192.0.2.5", 200, id="neighbouring IPv4 address"),
        pytest.param("2001:db8:0:1::1", "2001:db8:0:1::1", 429, id="same IPv6 address"),
        pytest.param("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", 429, id="same /64"),
        pytest.param("2001:db8:0:1::1", "2001:db8:0:2::1", 200, id="next /64"),
        pytest.param("::ffff:192.0.2.4", "192.0.2.4", 429, id="IPv4 address of a dual-stack listener"),
        pytest.param("::ffff:192.0.2.4", "::ffff:192.0.2.5", 200, id="two of a dual-stack listener"),
    ],
)
def test_client_is_an_ipv4_address_or_an_ipv6_network(
    open_site: OpenSite, first: str, second: str, code: int
) -> None:
    with open_site(signup=SignUp(per_client=1)) as site:
        codes = [
            site.client.post(
                "/subscribe", data={"email": f"n{number}@example.org"}, headers={"x-forwarded-for": client}
            ).status_code
            for number, client in enumerate((first, second))
        ]
    assert codes == [200, code]


@pytest.mark.parametrize(
    ("forwarded", "kept"),
    [
        ("192.0.2.4", "192.0.2.4"),
        ("203.0.113.9, 192.0.2.4", "192.0.2.4"),
        ("2001:db8::7", "2001:db8::7"),
        ("<script>alert(1)</script>", ""),
        ("x" * 5_000, ""),
        ("fe80::1%" + "z" * 500, "fe80::1"),
    ],
)
def test_where_a_wish_comes_from_is_an_address_or_nothing(site: Site, forwarded: str, kept: str) -> None:
    site.client.post("/subscribe", data={"email": "jo@example.org"}, headers={"x-forwarded-for": forwarded})
    site.letters(1)
    with site.database.reading() as connection:
        known = find(connection, parse_address("jo@example.org"))
        assert known is not None
        assert [line.ip for line in history(connection, known.id)] == [kept]
