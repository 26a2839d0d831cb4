"""The findings about right and wrong domains, which a real name server serves."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path

import dns.resolver
import pytest
from checkdmarc.utils import DNS_CACHE
from cryptography.hazmat.primitives import serialization

from mailer.config import Settings, load
from mailer.doctor import Finding, Level, Names
from mailer.doctor.examination import domains
from mailer.doctor.lifetimes import lifetimes
from mailer.doctor.names import Lifetime
from mailer.errors import ConfigError
from mailer.smtp.dkim import generate_key, load_key
from tests.doctor.dns_server import name_server
from tests.doctor.zones import KEY, OTHER_KEY, OTHERS, RIGHT, ZONES, Zone


class World:
    """The name server and the newsletter's folder."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self.server = server

    def settings(self, zone: Zone) -> Settings:
        config = self.folder / "config.toml"
        domain = zone.absolute(zone.signing)
        key = f'[[dkim]]\ndomain = "{domain}"\nselector = "mailer"\nkey_file = "key.pem"'
        config.write_text(
            f"""\
[newsletter]
author_address = "me@{zone.domain}"
[relays.main]
host = "{zone.relay}"
{zone.absolute(zone.config)}
{key if zone.signing else ""}
""",
            encoding="utf-8",
        )
        return load(config)


def _public(path: Path) -> str:
    public = load_key(path).public_key()
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(public.public_bytes(*form)).decode()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("doctor")
    for name in ("key.pem", "other.pem"):
        (folder / name).write_bytes(generate_key())
    values = {KEY: _public(folder / "key.pem"), OTHER_KEY: _public(folder / "other.pem")}
    lines = [_absolute(line, zone, values) for zone in ZONES for line in zone.lines()]
    with name_server(folder, OTHERS + "\n".join(lines) + "\n") as server:
        yield World(folder, server)


def _absolute(line: str, zone: Zone, values: dict[str, str]) -> str:
    """Return a line of a zone file with a whole name, a lifetime, and strings of at most 255 octets."""
    owner, rest = line.split(" ", 1)
    domain = zone.domain
    name = f"{domain}." if owner == "@" else f"{owner}.{domain}."
    for kind in ("IN MX 10 ", "IN CNAME "):
        if rest.startswith(kind):
            rest += f".{domain}."
    if '"' in rest:
        text = zone.absolute(rest.split('"')[1])
        for key, value in values.items():
            text = text.replace(key, value)
        rest = "IN TXT " + " ".join(f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))
    return f"{name} 3600 {rest}"


def by_check(findings: Iterator[Finding]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in findings:
        found.setdefault(one.check, []).append(f"{one.level.value}: {one.message}")
    return found


@pytest.mark.parametrize("zone", ZONES, ids=lambda zone: zone.name)
def test_every_finding_is_right(world: World, zone: Zone) -> None:
    found = by_check(domains(world.settings(zone), Names(world.server)))
    assert found == zone.expected()


@pytest.mark.parametrize(
    "name", ["spf-missing", "dkim-missing", "dkim-other", "dkim-revoked", "dmarc-missing"]
)
def test_published_record_solves_the_problem(world: World, name: str, tmp_path: Path) -> None:
    zone = next(one for one in ZONES if one.name == name)
    before = list(domains(world.settings(zone), Names(world.server)))
    changed = dict.fromkeys(zone.records, "")
    values = {KEY: _public(world.folder / "key.pem")}
    lines = [
        _absolute(line, zone, values) for text in {**RIGHT, **changed}.values() for line in text.splitlines()
    ]
    suggested = [one.record for one in before if one.record]
    assert suggested
    with name_server(tmp_path, OTHERS + "\n".join([*lines, *suggested]) + "\n") as server:
        DNS_CACHE.clear()
        after = list(domains(world.settings(zone), Names(server)))
    wrong = {one.check for one in before if one.level is Level.PROBLEM}
    assert [one for one in after if one.check in wrong and one.level is Level.PROBLEM] == []


def test_silent_name_server_is_a_problem_for_each_check(world: World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        names = Names(f"127.0.0.1:{silent.getsockname()[1]}")
        names.resolver.lifetime = names.resolver.timeout = 0.05
        found = list(domains(world.settings(ZONES[0]), names))
    assert [one.check for one in found] == ["spf", "dkim", "dmarc", "mx", "mta-sts", "bimi"]
    assert {one.level for one in found} == {Level.PROBLEM}
    assert "no name server replied in time" in found[0].message


def test_lifetimes_of_a_day_are_fine_and_longer_or_very_short_ones_are_not() -> None:
    found = [
        Lifetime("right.test", "MX", 86_400, True),
        Lifetime("slow.right.test", "TXT", 172_800, False),
        Lifetime("quick.right.test", "A", 60, True),
        # What is left of the time says nothing.
        Lifetime("cached.right.test", "A", 1, False),
        Lifetime("elsewhere.test", "A", 1, True),
    ]
    judged = [(one.level.value, one.subject) for one in lifetimes(found, ["right.test"])]
    assert judged == [("warning", "slow.right.test"), ("warning", "quick.right.test")]
    assert [one.level.value for one in lifetimes(found[:1], ["right.test"])] == ["ok"]


@pytest.mark.parametrize("server", ["nowhere", "1.2.3", "127.0.0.1:x", "[::1", ""])
def test_name_server_that_is_no_address_is_refused(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dns.resolver.Resolver.read_resolv_conf", _no_configuration)
    with pytest.raises(ConfigError, match="no name server to ask"):
        Names(server)


def _no_configuration(resolver: object, file: object) -> None:
    raise dns.resolver.NoResolverConfiguration
