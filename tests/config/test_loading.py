"""config.toml and the environment: order, errors with their place, secrets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from mailer.config import Relay, Section, Settings, flatten, load, password
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
        ("[web]\n\nport = 70000\n", r"config\.toml:3: 'web\.port': expected a whole number <= 65535"),
        ("[newsletter]\nauthor_address = 'nobody'\n", r"config\.toml:2: .*'nobody'"),
        ('[newsletter]\nname = "a\\nBcc: b"\n', r"config\.toml:2: .*U\+000A"),
        ("[relays.main]\nhost = 'mx.example.org'\nsecurity = 'plain'\n", r"config\.toml:1: .*needs 'tls'"),
        (
            "[web]\npublic_url = 'https://example.org/letters'\n",
            r"config\.toml:2: 'web\.public_url': it must not have a path; give the pages their own host",
        ),
        ("[web.tags]\n' vip' = 'VIP'\n", r"config\.toml:\d: .*web\.tags"),
        ("[web.tags]\nvip = ''\n", r"config\.toml:2: 'web\.tags\.vip'"),
        ("[web.reasons]\n'100 %' = 'All'\n", r"config\.toml:\d: .*web\.reasons"),
        ("[web\n", r"config\.toml:1: "),
        ("[relays.main]\nport = 25\n", r"config\.toml:1: 'relays\.main\.host': it is missing"),
        (
            "[relays.a]\nhost = 'a'\n[relays.b]\nhost = 'b'\nprot = 1",
            r":5: unknown key 'relays\.b\.prot'; .*'port'",
        ),
        ("[relays.main]\nhost = 'a'\nsecurity = 'tsl'", r"config\.toml:3: 'relays\.main\.security': .*'tsl'"),
        ("[[dkim]]\ndomain = 'a.example'\nselector = 's'\nkey = 1", r":4: unknown key 'dkim\.0\.key'"),
        ("[[bounces.boxes]]\nhost = 'a'\nuser = 'b'\nkind = 'x'", r":4: 'bounces\.boxes\.0\.kind'"),
        ("[canary]\nmax_bounced = '2'", r":2: 'canary\.max_bounced': .*write it like '2%'"),
        ("[canary]\nmax_bounced = 2", r":2: 'canary\.max_bounced': .*from 0 to 1"),
        ("[canary]\nwait = 'PT-3M'", r":2: 'canary\.wait'"),
        ("[canary]\nseeds = ['nobody']", r":2: 'canary\.seeds': .*'nobody'"),
        ("[retention]\nevents = 'PT1H'", r":2: 'retention\.events': it must be 24 hours"),
        ("[web]\nproxies = ['10.0.0.1/8']", r":2: 'web\.proxies': .*host bits"),
        ("[signup]\nper_client = 0", r":2: 'signup\.per_client': expected a whole number >= 1"),
        ("[signup]\nrefused_domains = ['no domain']", r":2: 'signup\.refused_domains'"),
        ("[imports.crm]\nstatus = 'Stand'", r":1: 'imports\.crm': .*give both or neither"),
        ("[brand]\naccent = 'red'", r":2: 'brand\.accent': expected a colour such as '#0b6e4f'"),
        ("newsletter = 3", r":1: 'newsletter': expected a table"),
        ("folder = '/'", r":1: unknown key 'folder'"),
        ("origins = {}", r":1: unknown key 'origins'"),
    ],
)
def test_error_names_place_and_remedy(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        load(write(tmp_path, text))
    assert caught.value.exit_code == ExitCode.CONFIGURATION


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    text = "[web]\nport = 0\n[relays.a]\nhost = 1\n[relays.b]\nhost = 'b'\nport = 'x'\n"
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    told = [line.partition(": '")[2].partition("'")[0] for line in caught.value.message.splitlines()]
    assert told == ["web.port", "relays.a.host", "relays.b.port"]


def test_values_come_in_their_types(tmp_path: Path) -> None:
    settings = load(
        write(
            tmp_path,
            "[delivery]\ngive_up_after = 'PT90M'\nretry_base = 30\n[canary]\nmax_bounced = '0.5%'\n"
            "[paths]\nissues = 'letters'\n[newsletter]\nreply_to = 'Me@EXAMPLE.org'\n",
        )
    )
    assert settings.delivery.give_up_after == timedelta(minutes=90)
    assert settings.delivery.retry_base == timedelta(seconds=30)
    assert settings.canary.max_bounced == 0.005
    assert settings.path(settings.paths.issues) == tmp_path / "letters"
    assert settings.newsletter.reply_to == "Me@example.org"


def test_variables_hold_text_numbers_and_lists_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILER_TRACKING__OPENS", "true")
    monkeypatch.setenv("MAILER_CANARY__SEEDS", '["me@example.org"]')
    monkeypatch.setenv("MAILER_WEB__REASONS", '{"other": "Something else"}')
    monkeypatch.setenv("MAILER_RELAYS__MAIN__HOST", "{braces}.example")
    settings = load(write(tmp_path, ""))
    assert settings.tracking.opens
    assert settings.canary.seeds == ("me@example.org",)
    assert settings.web.reasons == {"other": "Something else"}
    assert settings.relays["main"].host == "{braces}.example"
    monkeypatch.setenv("MAILER_CANARY__SEEDS", "me@example.org")
    with pytest.raises(ConfigError, match="MAILER_CANARY__SEEDS: ") as caught:
        load(write(tmp_path, ""))
    assert caught.value.remedy == "write it as JSON"


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


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            {"password_command": "sh -c 'exit 3'"},
            "password_command: it ended with exit code 3; run the command",
        ),
        ({"password_command": "sh -c 'kill -9 $$'"}, "password_command: it was ended by signal 9; run"),
        ({"password_command": "gone-program"}, "password_command: it cannot be started: no such file or"),
        ({"password_command": "printf '\\377'"}, "password_command: its output is not text, or"),
        ({"password_command": "echo 'half"}, "password_command: its output is not text, or the command has"),
        ({"password_file": Path("gone")}, "password_file gone: no such file or directory; check the path"),
        ({"password_file": Path(".")}, "password_file .: is a directory; check the path"),
        ({"password_file": Path("binary")}, "password_file binary: it is not a text file; save it as UTF-8"),
        ({"password_file": Path("a\0b")}, "it is not a text file; save it as UTF-8"),
    ],
)
def test_secret_that_cannot_be_read_says_why(tmp_path: Path, source: dict[str, Any], expected: str) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError) as caught:
        password(Relay(host="a.example", **source), tmp_path)
    assert expected in str(caught.value)


def choices(kind: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Yield every key that takes one of several words, with the words."""
    for field in msgspec.structs.fields(kind):
        below = (*above, field.name)
        for one in (field.type, *get_args(field.type)):
            if isinstance(one, type) and issubclass(one, Enum):
                yield below, [str(word.value) for word in one]
            elif isinstance(one, type) and issubclass(one, Section):
                array = get_args(field.type)[1:] == (...,)
                named = () if one is field.type else ("0",) if array else ("some",)
                yield from choices(one, (*below, *named))


def test_unknown_word_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    found = list(choices(Settings))
    assert (("relays", "some", "security"), ["tls", "starttls", "plain"]) in found
    for keys, words in found:
        value: Any = "nothing"
        for key in reversed(keys):
            value = [value] if key == "0" else {key: value}
        with pytest.raises(ConfigError) as caught:
            load(write(tmp_path, ""), flags=value)
        assert f"'{'.'.join(keys)}': 'nothing' is not one of {', '.join(words)}" in caught.value.message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://ana:hunter2@db/news", "postgresql+psycopg://ana:********@db/news"),
        ("postgresql+psycopg://ana:hun/ter2@db:5432/news", "postgresql+psycopg://ana:********@db:5432/news"),
        (
            "postgresql://db/news?user=ana&password=hunter2&x=1",
            "postgresql://db/news?user=ana&password=********&x=1",
        ),
        ("postgresql://ana@db:5432/news", "postgresql://ana@db:5432/news"),
        ("sqlite:///subscribers.db", "sqlite:///subscribers.db"),
    ],
)
def test_password_in_the_database_url_is_masked(tmp_path: Path, url: str, shown: str) -> None:
    settings = load(write(tmp_path, f"[paths]\ndatabase = '{url}'\n"))
    assert flatten(settings)["paths.database"] == shown


def test_values_are_shown_as_config_toml_writes_them(tmp_path: Path) -> None:
    shown = flatten(
        load(
            write(
                tmp_path,
                "[delivery]\nretry_base = 'PT1.5S'\nretry_ceiling = 'PT90M'\ngive_up_after = 'P3D'\n"
                "[canary]\nmax_bounced = '2.5%'\n",
            )
        )
    )
    expected = {
        "delivery.retry_base": "PT1.5S",
        "delivery.retry_ceiling": "PT90M",
        "delivery.give_up_after": "P3D",
        "delivery.undo": "PT0M",
        "delivery.wait_for_retries": "false",
        "canary.max_bounced": "2.5%",
        "canary.max_complained": "0.1%",
        "bounces.soft_points": "5",
        "web.welcome": "true",
    }
    assert {key: shown[key] for key in expected} == expected
