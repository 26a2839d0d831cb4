"""The API: who may do what, what a request may say, and that no call brings anybody back."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import select

from mailer import api_tokens as access
from mailer.api_tokens import Scope
from mailer.audience.ledger import unsubscribe
from mailer.audience.subscribers import history
from mailer.audience.transitions import Origin
from mailer.config import Newsletter, SignUp
from mailer.database.tables import ApiToken
from tests.postgres import Server
from tests.web.conftest import AT, OpenSite, Site

TEMPLATES = Path(__file__).parents[2] / "email_templates"
NEWSLETTER = Newsletter(author_address="ana@example.org", postal_address="1 Example Street")
AGREED: dict[str, Any] = {"source": "paper form at the fair", "at": "2026-02-01T10:00:00Z", "ip": "192.0.2.4"}


class Client:
    """Calls the API with a token of certain scopes."""

    def __init__(self, site: Site, *scopes: Scope) -> None:
        with site.database.transaction() as connection:
            _, self.text = access.create(connection, "website", scopes, at=AT)
        self.site = site

    def __call__(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.text}", **options.pop("headers", {})}
        return self.site.client.request(method, f"/api/v1/subscribers{path}", headers=headers, **options)

    def add(self, address: str, **fields: Any) -> httpx.Response:
        return self("POST", json={"address": address, "consent": AGREED, **fields})


@pytest.fixture
def api(site: Site) -> Client:
    return Client(site, *Scope)


@pytest.fixture
def site(open_site: OpenSite) -> Iterator[Site]:
    with open_site(segments={"locals": 'country = "RO"'}) as opened:
        yield opened


def test_person_is_added_read_changed_and_erased(api: Client) -> None:
    made = api.add("Ana@Example.org", name="Ana", attributes={"country": "RO", "n": 1}, tags=["vip"])
    assert made.status_code == 201
    ana = made.json()
    assert made.headers["location"] == f"/api/v1/subscribers/{ana['id']}"
    assert (ana["address"], ana["status"], ana["tags"]) == ("Ana@example.org", "active", ["vip"])
    path = f"/{ana['id']}"
    changed = api("PATCH", path, json={"name": "Ana P.", "attributes": {"n": None, "m": 2}, "tags": ["new"]})
    assert changed.json() == ana | {
        "name": "Ana P.",
        "attributes": {"country": "RO", "m": 2},
        "tags": ["new"],
    }
    assert api("GET", path).json() == changed.json()
    assert api("DELETE", path).status_code == 204
    assert api("GET", path).status_code == 404
    again = api.add("ana@example.org")
    assert (again.status_code, again.headers["content-type"]) == (409, "application/problem+json")


def test_stated_consent_is_in_the_ledger(api: Client) -> None:
    ana = api.add("ana@example.org").json()["id"]
    with api.site.database.reading() as connection:
        (line,) = history(connection, ana)
    assert (line.after, line.way, line.ip) == ("active", "api", "192.0.2.4")
    assert "paper form at the fair" in line.note
    assert "2026-02-01T10:00:00+00:00" in line.note


def test_without_consent_a_letter_asks_and_the_answer_is_the_same_for_everybody(api: Client) -> None:
    api.site.subscribe("known@example.org")
    new = api("POST", json={"address": "new@example.org", "tags": ["from-site"], "attributes": {"x": 1}})
    known = api("POST", json={"address": "known@example.org"})
    assert (new.status_code, known.status_code, new.json()) == (202, 202, known.json())
    (letter,) = api.site.letters(1)
    assert letter["To"] == "new@example.org"
    (row,) = api("GET", "", params={"address": "NEW@example.org"}).json()["items"]
    assert (row["status"], row["tags"], row["attributes"]) == ("pending", ["from-site"], {"x": 1})


def test_request_that_cannot_be_stored_is_never_answered_202(api: Client) -> None:
    with api.site.database.engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE sign_up_requests")
        connection.commit()
    answer = api("POST", json={"address": "new@example.org"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert answer.headers["content-type"] == "application/problem+json"


def test_no_call_brings_back_an_opt_out(api: Client) -> None:
    ana = api.add("ana@example.org").json()["id"]
    with api.site.database.transaction() as connection:
        unsubscribe(connection, ana, origin=Origin("one-click"), at=AT)
    assert api.add("ana@example.org").status_code == 409
    assert api("PATCH", f"/{ana}", json={"name": "Ana"}).json()["status"] == "unsubscribed"
    assert api("PATCH", f"/{ana}", json={"status": "active"}).status_code == 422
    assert api("POST", json={"address": "ana@example.org"}).status_code == 202
    assert api("GET", f"/{ana}").json()["status"] == "unsubscribed"


def test_unsubscribing_twice_is_fine(api: Client) -> None:
    ana = api.add("ana@example.org").json()["id"]
    for _ in range(2):
        assert api("POST", f"/{ana}/unsubscribe").json()["status"] == "unsubscribed"


def test_pages_follow_one_another(api: Client) -> None:
    for number in range(5):
        api.add(f"r{number}@example.org", attributes={"country": "RO" if number % 2 else "MD"})
    seen, cursor = [], ""
    while cursor is not None:
        page = api("GET", "", params={"limit": 2, "cursor": cursor}).json()
        seen += [row["address"][:2] for row in page["items"]]
        cursor = page["next"]
    assert seen == ["r0", "r1", "r2", "r3", "r4"]
    found = api("GET", "", params={"where": "@locals"}).json()["items"]
    assert [row["address"][:2] for row in found] == ["r1", "r3"]


def test_wrong_segment_is_explained(api: Client) -> None:
    answer = api("GET", "", params={"where": "tag:vip adn x = 1"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("column 9: ")


@pytest.mark.parametrize(
    ("scope", "method", "path", "body"),
    [
        (Scope.READ, "GET", "", None),
        (Scope.READ, "GET", "/1", None),
        (Scope.SUBSCRIBE, "POST", "", {"address": "b@example.org"}),
        (Scope.WRITE, "PATCH", "/1", {}),
        (Scope.WRITE, "POST", "/1/unsubscribe", None),
        (Scope.ERASE, "DELETE", "/1", None),
    ],
)
def test_each_act_needs_its_scope(
    site: Site, scope: Scope, method: str, path: str, body: dict[str, Any] | None
) -> None:
    site.subscribe()
    refused = Client(site, *(set(Scope) - {scope}))(method, path, json=body)
    assert (refused.status_code, refused.json()["title"]) == (403, "Forbidden")
    assert scope.value in refused.json()["detail"]
    assert Client(site, scope)(method, path, json=body).status_code < 300


def test_subscribing_without_a_letter_needs_the_scope_to_import(site: Site) -> None:
    assert Client(site, Scope.SUBSCRIBE).add("a@example.org").status_code == 403
    assert Client(site, Scope.SUBSCRIBE, Scope.IMPORT).add("a@example.org").status_code == 201


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer x", "Basic eDp5", "Bearer mlr_1_" + "A" * 43, "Bearer mlr_9_" + "A" * 43],
)
def test_who_has_no_valid_token_learns_nothing(site: Site, header: str | None) -> None:
    Client(site, *Scope)
    headers = {} if header is None else {"Authorization": header}
    answer = site.client.get("/api/v1/subscribers/1", headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["detail"] == "The token is missing or invalid."


def test_revoked_token_stops_working_immediately(site: Site) -> None:
    client = Client(site, Scope.READ)
    assert client("GET").status_code == 200
    with site.database.transaction() as connection:
        (token,) = access.tokens(connection)
        assert token.used_at is not None
        assert access.revoke(connection, token.id, at=AT)
    assert client("GET").status_code == 401


def test_database_keeps_no_token(site: Site) -> None:
    client = Client(site, Scope.READ)
    with site.database.reading() as connection:
        stored = connection.execute(select(ApiToken).where(ApiToken.c.id == 1)).one()
        kept = " ".join(map(str, stored))
    assert client.text.split("_", 2)[2] not in kept
    assert len(stored.digest) == 64


def test_guessing_tokens_is_slowed_down(site: Site) -> None:
    client = Client(site, Scope.READ)
    codes = [site.client.get("/api/v1/subscribers").status_code for _ in range(31)]
    assert codes == [401] * 30 + [429]
    assert client("GET").status_code == 429


def test_no_cookie_and_no_other_origin(api: Client) -> None:
    answer = api("GET", headers={"Origin": "https://evil.example", "Cookie": "a=b"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name == "set-cookie" or name.startswith("access-control")]
    assert answer.headers["cache-control"] == "no-store"
    preflight = api(
        "OPTIONS", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 405
    form = api("POST", content=b'{"address": "a@example.org"}', headers={"Content-Type": "text/plain"})
    assert form.status_code == 422


@pytest.mark.parametrize(
    "fields",
    [
        {"address": "nobody"},
        {"address": "a@example.org\r\nBcc: b@example.org"},
        {"name": "Ana\r\nBcc: b@example.org"},
        {"name": "a" * 256},
        {"tags": ["x" * 65]},
        {"tags": ["x"] * 101},
        {"attributes": {"a": "x" * 2001}},
        {"attributes": {"a": [[[[[1]]]]]}},
        {"attributes": {"a": 2**60}},
        {"attributes": {"": 1}},
        {"attributes": {f"a{n}": 1 for n in range(201)}},
        {"attributes": {f"a{n}": "x" * 1900 for n in range(10)}},
        {"consent": {"source": "", "at": "2026-02-01T10:00:00Z"}},
        {"consent": {"source": "x", "at": "2026-02-01T10:00:00"}},
        {"status": "active"},
    ],
)
def test_one_value_out_of_bounds_rejects_the_request(api: Client, fields: dict[str, Any]) -> None:
    answer = api("POST", json={"address": "a@example.org", "consent": AGREED} | fields)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert api("GET").json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"address": "a@example.org", "name": "\\ud800"}',
        b'{"address": "a@example.org", "attributes": {"a": "\\ud800"}}',
        b'{"address": "a@example.org", "attributes": {"a": NaN}}',
        b'{"address": "a@example.org", "attributes": {"a": 1e999}}',
        b'{"address": "a@example.org", "attributes": {"a": ' + b"9" * 5000 + b"}}",
        b'{"address": "a@example.org", "attributes": {"a": "\\u0000"}}',
        b'{"address": "a@example.org", "attributes": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b"\xff\xfe",
    ],
)
def test_odd_bodies_are_refused(api: Client, body: bytes) -> None:
    answer = api("POST", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["status"] == answer.status_code


def test_large_body_is_refused(api: Client) -> None:
    body = json.dumps({"address": "a@example.org", "name": "x" * 70_000}).encode()
    answer = api("POST", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["status"]) == (413, 413)


def test_letters_are_not_sent_without_end(open_site: OpenSite) -> None:
    with open_site(signup=SignUp(per_domain=5)) as site:
        client = Client(site, Scope.SUBSCRIBE)
        codes = [client("POST", json={"address": f"a{n}@example.org"}).status_code for n in range(6)]
        assert codes == [202] * 5 + [429]
        assert client("POST", json={"address": "a@example.com"}).status_code == 202
        assert len(site.letters(6)) == 6


def test_address_that_may_not_sign_up_is_explained_and_one_with_consent_is_taken(open_site: OpenSite) -> None:
    with open_site(signup=SignUp(roles=False, refused_domains=("example.com",))) as site:
        client = Client(site, Scope.SUBSCRIBE, Scope.IMPORT)
        for address in ("info@example.org", "jo@mail.example.com"):
            answer = client("POST", json={"address": address})
            assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
            assert "Please use" in answer.json()["detail"]
            agreed = {"address": address, "consent": {"source": "at a fair", "at": "2026-01-02T03:04:05Z"}}
            assert client("POST", json=agreed).status_code == 201


@pytest.fixture(params=["sqlite", "postgresql"])
def on_either(request: pytest.FixtureRequest, open_site: OpenSite) -> Iterator[Client]:
    """A client that may do everything, whichever database there is."""
    url = "sqlite:///subscribers.db"
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        url = server.new_database()
    with open_site(url=url, own=TEMPLATES, newsletter=NEWSLETTER) as opened:
        yield Client(opened, *Scope)


HOSTILE = ('name = "a\0b"', 'tag:"\0"', 'has:"\0"', '"\0" = 1', "joined > 9999-12-31", "x" * 1_990)


@pytest.mark.parametrize("where", HOSTILE)
def test_hostile_segment_is_answered_and_never_a_failure(on_either: Client, where: str) -> None:
    assert on_either("GET", params={"where": where}).status_code in (200, 422)


PEOPLE = [f"p{number}@example.org" for number in range(60)]
SLOW = ("/lint", "/preview", "/send", "/schedule", "/messages")
"""The ends of the routes that render an issue."""


def _made_valid(data: st.DataObject, case: Case[Any]) -> None:
    """Give a generated request what no generator guesses: an address, and a subscriber that exists."""
    if "subscriber_id" in case.path_parameters:
        # Erased people are gone for the requests after, so those get people of their own.
        half = len(PEOPLE) // 2
        low, high = (1, half) if case.method == "DELETE" else (half + 1, len(PEOPLE))
        case.path_parameters["subscriber_id"] = data.draw(st.integers(low, high))
    if "issue" in case.path_parameters:
        known = ["001-one", "002-two", "003-three"]
        only_queued = case.path.endswith(("/books", "/deliveries"))
        case.path_parameters["issue"] = data.draw(st.sampled_from(known[2:] if only_queued else known))
        if case.path.endswith("/schedule"):
            case.path_parameters["issue"] = "001-one"
    if case.method == "PUT" and case.path.endswith("{issue}") and isinstance(case.body, dict):
        source = "---\ntitle: One\n---\nText\n"
        case.body |= {"digest": hashlib.sha256(source.encode()).hexdigest(), "source": source}
    if case.path.endswith(("/send", "/schedule")) and isinstance(case.body, dict):
        case.body["segment"] = ""
        if case.method == "PUT":
            everywhere = data.draw(st.booleans())
            case.body.pop("at" if everywhere else "local_time", None)
            case.body |= {"local_time": "2999-01-01T00:00"} if everywhere else {"at": "2999-01-01T00:00:00Z"}
            case.body["timezone"] = "Europe/Bucharest"
        case.headers["idempotency-key"] = data.draw(st.sampled_from(["a", "b"]))
    if case.path == "/messages" and isinstance(case.body, dict):
        case.body |= {"to": data.draw(st.sampled_from(PEOPLE[31:])), "text": "Sent", "subject": "Order"}
        case.headers["idempotency-key"] = data.draw(st.sampled_from(["m1", "m2", "m3"]))
    if case.method == "POST" and case.path == "/subscribers" and isinstance(case.body, dict):
        case.body["address"] = data.draw(st.sampled_from([*PEOPLE, "new@example.com", "Ünï@bücher.example"]))
        if data.draw(st.booleans()):
            case.body.pop("consent", None)
        else:
            case.body["consent"] = AGREED
        for free in ("attributes", "tags", "name"):
            if data.draw(st.booleans()):
                case.body.pop(free, None)


# The server's threads use `random` while hypothesis draws in this one.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
def test_nothing_in_the_description_makes_it_fail(on_either: Client) -> None:
    """Requests made from the OpenAPI, well formed and not: none fails, each answer is documented."""
    for address in PEOPLE:
        on_either.add(address, tags=["vip"], attributes={"n": 1})
    for title in ("One", "Two", "Three"):
        issue = {"title": title, "source": f"---\ntitle: {title}\n---\nText\n"}
        assert on_either("POST", "/../issues", json=issue).status_code == 201
    queued = on_either("POST", "/../issues/003-three/send", json={}, headers={"Idempotency-Key": "3"})
    assert queued.status_code == 202
    headers = {"Authorization": f"Bearer {on_either.text}"}
    base_url = str(on_either.site.client.base_url).rstrip("/") + "/api/v1"
    schema = schemathesis.openapi.from_url(f"{base_url}/openapi.json")
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    answered: dict[str, Counter[int]] = {}
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        codes = answered.setdefault(f"{operation.method.upper()} {operation.path}", Counter())

        about_subscribers = operation.path.startswith("/subscribers")

        @settings(
            max_examples=20 if about_subscribers else 4 if operation.path.endswith(SLOW) else 8,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data())
        def ask(data: st.DataObject) -> None:
            case: Case[Any] = data.draw(operation.as_strategy())  # noqa: B023 - called in this turn
            if data.draw(st.integers(0, 2)):
                _made_valid(data, case)
            answer = case.call(base_url=base_url, headers=headers)
            codes[answer.status_code] += 1  # noqa: B023
            case.validate_response(answer, checks=checks)

        ask()
    assert {name: {code // 100 for code in codes} & {2} for name, codes in answered.items()} == {
        "GET /subscribers": {2},
        "POST /subscribers": {2},
        "GET /subscribers/{subscriber_id}": {2},
        "PATCH /subscribers/{subscriber_id}": {2},
        "DELETE /subscribers/{subscriber_id}": {2},
        "POST /subscribers/{subscriber_id}/unsubscribe": {2},
        "GET /issues": {2},
        "POST /issues": {2},
        "GET /issues/{issue}": {2},
        "PUT /issues/{issue}": {2},
        "POST /issues/{issue}/lint": {2},
        "GET /issues/{issue}/preview": {2},
        "GET /issues/{issue}/books": {2},
        "GET /issues/{issue}/deliveries": {2},
        "PUT /issues/{issue}/schedule": {2},
        "DELETE /issues/{issue}/schedule": {2},
        "POST /issues/{issue}/send": {2},
        "POST /messages": {2},
        "POST /sequences/{name}/members": set(),
        "GET /stats": {2},
        "GET /stats/issues/{issue}": {2},
        "GET /metrics": {2},
    }
    assert 422 in answered["POST /subscribers"]
