"""The files in deploy/: each is read by the program that it is for."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from mailer.cli import deploying, mailer, run
from mailer.errors import ExitCode
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


WORKFLOWS = sorted((DEPLOY.parent / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize(
    ("schema", "files"),
    [("vendor.compose-spec", [DEPLOY / "compose" / "compose.yaml"]), ("vendor.github-workflows", WORKFLOWS)],
)
def test_files_follow_their_schema(schema: str, files: list[Path]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_container_file_has_no_common_mistake() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DEPLOY / "Containerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_workflows_run_targets_that_exist_on_every_supported_python() -> None:
    makefile = (DEPLOY.parent / "Makefile").read_text()
    jobs = yaml.safe_load(WORKFLOWS[0].read_text())["jobs"]
    targets = [
        target
        for job in jobs.values()
        for step in job["steps"]
        if step.get("run", "").startswith("make ")
        for target in step["run"].split()[1:]
    ]
    assert targets
    assert [target for target in targets if f"\n{target}:" not in makefile] == []
    supported = (DEPLOY.parent / "tests" / "install" / "pythons.sh").read_text()
    versions = jobs["tests"]["strategy"]["matrix"]["python"]
    assert [version for version in versions if version not in supported] == []


def test_build_is_reproducible(tmp_path: Path) -> None:
    """Built from a copy elsewhere, with other times and permissions, the wheel and the sdist are the same."""
    names = subprocess.run(["git", "ls-files"], cwd=DEPLOY.parent, capture_output=True, text=True, check=True)
    copy = tmp_path / "copy"
    for name in names.stdout.splitlines():
        if name.startswith(("tests/", "benchmarks/", "docs/images/")):
            continue
        source, target = DEPLOY.parent / name, copy / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
            os.utime(target, (10**9, 10**9))
    first, second = built(DEPLOY.parent, tmp_path / "first"), built(copy, tmp_path / "second")
    assert first == second
    assert sorted(Path(name).suffix for name in first) == [".gz", ".whl"]


def built(source: Path, folder: Path) -> dict[str, str]:
    """Build both distributions; return their names and hashes."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def initialized(folder: Path, kind: str) -> Path:
    given = ["--address", "ana@example.org", "--url", "https://news.example.net", "--yes", "--with", kind]
    assert run(["init", str(folder), *given]) == ExitCode.DONE
    return folder / "deploy"


def test_units_of_init_are_valid_and_name_this_newsletter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my news 100%"
    monkeypatch.setattr(deploying, "_HOMES", (tmp_path,))
    made = initialized(folder, "systemd")
    for unit in made.glob("*.service"):
        text = unit.read_text()
        assert "/srv/letters" not in text
        assert 'BindPaths="' in text
        test_unit_is_valid_and_confined(unit, tmp_path)
    for file in ("nginx.conf", "Caddyfile"):
        assert "news.example.net" in (made / file).read_text()
        assert "letters.example.org" not in (made / file).read_text()


def test_compose_file_of_init_follows_the_schema_and_keeps_a_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = initialized(tmp_path / "news", "compose")
    test_files_follow_their_schema("vendor.compose-spec", [made / "compose.yaml"])
    services = yaml.safe_load((made / "compose.yaml").read_text())["services"]
    assert (services["web"]["volumes"], "build" in services["web"]) == (["..:/letters"], False)
    assert re.fullmatch(r"\d+:\d+", services["worker"]["user"])
    assert not services["worker"]["user"].startswith("0:")
    secret = made / ".env"
    assert len(secret.read_text()) > 40
    assert secret.stat().st_mode & 0o777 == 0o600
    # It is kept out of version control, and never overwritten.
    assert "/deploy/.env" in (tmp_path / "news" / ".gitignore").read_text().splitlines()
    before = secret.read_text()
    assert run(["init", str(tmp_path / "news"), "--with", "compose"]) == ExitCode.REFUSED
    assert "already exists" in capsys.readouterr().err
    assert secret.read_text() == before


def test_services_are_added_to_a_newsletter_that_exists(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('web.public_url = "https://news.example.net"\n')
    assert run(["init", str(tmp_path), "--with", "systemd"]) == ExitCode.DONE
    assert "news.example.net" in (tmp_path / "deploy" / "Caddyfile").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "deploy"]
