"""The files in deploy/: each is read by the program that it is for."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from mailer.cli import mailer
from tests.programs import program

DEPLOY = Path(__file__).parents[1] / "deploy"
SERVICES = sorted((DEPLOY / "systemd").glob("*.service"))


def commands() -> Iterator[list[str]]:
    """Yield the words of each `mailer` command in the units and in the compose file."""
    for unit in SERVICES:
        for line in re.findall(r"^ExecStart=\S+/mailer (.*)$", unit.read_text(), re.MULTILINE):
            yield shlex.split(line)
    services = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
    yield from (services[name]["command"] for name in ("web", "worker"))
    yield re.findall(r'"([^"]+)"', (DEPLOY / "Containerfile").read_text().rpartition("CMD ")[2])


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_command_is_one(words: list[str], tmp_path: Path) -> None:
    # The folder of the examples is not on this machine.
    words = [str(tmp_path) if word == "/srv/letters" else word for word in words]
    context = click.Context(mailer, info_name="mailer")
    name, command, rest = mailer.resolve_command(context, words)
    while command is not None and isinstance(command, click.Group):
        context = click.Context(command, parent=context, info_name=name)
        name, command, rest = command.resolve_command(context, rest)
    assert command is not None
    command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_unit_is_valid_and_confined(unit: Path, tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/usr/local/bin/mailer", "/bin/true"))
    verified = subprocess.run([analyze, "verify", str(copy)], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    security = [analyze, "security", "--offline=true", "--threshold=25", str(copy)]
    judged = subprocess.run(security, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout[-300:]


def test_nginx_accepts_the_site(tmp_path: Path) -> None:
    nginx = program("nginx")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=letters.example.org"]
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    site = (DEPLOY / "nginx.conf").read_text()
    site = re.sub(r"/etc/letsencrypt/\S+/fullchain.pem", str(certificate), site)
    site = re.sub(r"/etc/letsencrypt/\S+/privkey.pem", str(key), site)
    site = site.replace("listen 80;", "listen 127.0.0.1:18080;").replace("listen [::]:80;", "")
    site = site.replace("listen 443 ssl;", "listen 127.0.0.1:18443 ssl;").replace("listen [::]:443 ssl;", "")
    config = tmp_path / "nginx.conf"
    config.write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n{site}}}\n")
    done = subprocess.run(
        [nginx, "-t", "-c", str(config), "-p", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", ["Caddyfile", "compose/Caddyfile"])
def test_caddy_accepts_the_site(file: str, tmp_path: Path) -> None:
    caddy = program("caddy")
    command = [caddy, "validate", "--adapter", "caddyfile", "--config", str(DEPLOY / file)]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_containers_are_confined() -> None:
    services = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
    for name in ("web", "worker"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    # Only Caddy can be reached from outside; the database cannot reach out.
    assert {name for name, one in services.items() if "ports" in one} == {"caddy", "mailpit"}
    assert re.search(r"^USER \d+$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
