"""config.toml and the environment: order, errors with their place, secrets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mailer.config import Relay, flatten, load, password
from mailer.errors import ConfigError, ExitCode

PROJECT = Path(__file__).parents[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_file_works_unchanged() -> None:
    settings = load(PROJECT / "config.toml")
    assert settings.relays == {}
    assert settings.newsletter.name == "Windowsill Letters"
    assert settings.bounce_domain == "example.org"


def test_flag_beats_environment_beats_file_beats_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "[web]\nport = 1001\nhost = '127.0.0.2'\n")
    assert load(path).web.port == 1001
    monkeypatch.setenv("MAILER_WEB__PORT", "1002")
    settings = load(path)
    assert (settings.web.port, settings.web.host) == (1002, "127.0.0.2")
    assert (settings.origin("web.port"), settings.origin("web.host")) == ("MAILER_WEB__PORT", "config.toml:3")
    settings = load(path, flags={"web": {"port": 1003}})
    assert (settings.web.port, settings.origin("web.port")) == (1003, "flag")
    assert settings.origin("web.public_url") == "default"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[newsletter]\nnam = 'x'\n",
            r"toml:2: unknown key 'newsletter\.nam'; did you mean 'name'\?",
        ),
        ("[newslettr]\nname = 'x'\n", r"config\.toml:1: unknown key 'newslettr'; did you mean 'newsletter'"),
        ("[web]\n\nport = 70000\n", r"config\.toml:3: 'web\.port': input should be less than"),
        ("[newsletter]\nauthor_address = 'nobody'\n", r"config\.toml:2: .*'nobody'"),
        ('[newsletter]\nname = "a\\nBcc: b"\n', r"config\.toml:2: .*U\+000A"),
        ("[relays.main]\nhost = 'mx.example.org'\nsecurity = 'plain'\n", r"config\.toml:1: .*needs 'tls'"),
        ("[web.tags]\n' vip' = 'VIP'\n", r"config\.toml:\d: .*web\.tags"),
        ("[web.tags]\nvip = ''\n", r"config\.toml:2: 'web\.tags\.vip'"),
        ("[web.reasons]\n'100 %' = 'All'\n", r"config\.toml:\d: .*web\.reasons"),
        ("[web\n", r"config\.toml: .*line 1"),
    ],
)
def test_error_names_place_and_remedy(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        load(write(tmp_path, text))
    assert caught.value.exit_code == ExitCode.CONFIGURATION


def test_missing_file_says_where_to_go(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="-C DIR"):
        load(tmp_path / "config.toml")


def test_misspelt_variable_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILER_WEBB__PORT", "1")
    with pytest.raises(ConfigError, match=r"MAILER_WEBB__PORT: no such setting; did you mean 'web'"):
        load(write(tmp_path, ""))


def test_password_comes_from_environment_file_or_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("from-file\n", encoding="utf-8")
    command = f"{sys.executable} -c \"print('from-command')\""
    assert password(Relay(host="a.example", password_file=Path("secret")), tmp_path) == "from-file"
    assert password(Relay(host="a.example", password_command=command), tmp_path) == "from-command"
    monkeypatch.setenv("MAILER_RELAYS__MAIN__PASSWORD", "from-environment")
    settings = load(write(tmp_path, "[relays.main]\nhost = 'a.example'\n"))
    assert password(settings.relays["main"], tmp_path) == "from-environment"
    assert flatten(settings)["relays.main.password"] == "********"
    assert "from-environment" not in repr(settings)


def test_failing_password_command_does_not_quote_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        password(Relay(host="a.example", password_command="false --token=hunter2"), tmp_path)
    assert "hunter2" not in str(caught.value)
