"""Common mistakes are answered with an error that says what to do, and never with a traceback."""

from __future__ import annotations

import ast
import errno
import gc
import os
import re
import shlex
import socket
import sys
from functools import cache
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mailer as package
from mailer.cli import check_system, mailer, run
from mailer.errors import ConfigError, ExitCode, ListenError
from tests.end_to_end.newsletter import Folder

SIGNS = ("Traceback", "[Errno", "this is a bug", "unexpected ", "regex", "<class", "sqlalchemy", "None")
USAGE, FAILURE, CONFIGURATION, REFUSED = (
    ExitCode.USAGE,
    ExitCode.FAILURE,
    ExitCode.CONFIGURATION,
    ExitCode.REFUSED,
)
MISTAKES: list[tuple[str, ExitCode | None]] = [
    ("", USAGE),
    ("sned 1", USAGE),
    ("send", USAGE),
    ("send 2", FAILURE),
    ("send nothing.md", FAILURE),
    ("send /", FAILURE),
    ("send 1", REFUSED),
    ("send 1 --to tag:", USAGE),
    ("send 1 --to 'tag:a adn b'", USAGE),
    ("send 1 --to @nobody", USAGE),
    ("send 1 --to nobody --yes", None),
    ("send 1 --canary 200% --yes", USAGE),
    ("send 1 --canary x --yes", USAGE),
    ("send 1 --workers 0", USAGE),
    ("send 1 --workers two", USAGE),
    ("test 1", USAGE),
    ("test 1 --to nobody", None),
    ("test 1 --to a@example.org --as nobody", None),
    ("test 1 --to a@example.org --as gone@example.org", None),
    ("render 9", FAILURE),
    ("render 1 --out config.toml", FAILURE),
    ("lint 9", FAILURE),
    ("plan 9", FAILURE),
    ("plan 1 --reply-time 0", USAGE),
    ("preview 9", FAILURE),
    ("rehearse 1", REFUSED),
    ("rehearse 1 --scenario gone.toml", FAILURE),
    ("rehearse 1 --scenario config.toml", FAILURE),
    ("rehearse 1 --scenario .", None),
    ("status 9", None),
    ("status --list sent", USAGE),
    ("pause 9", None),
    ("resume 9", None),
    ("cancel 9 --yes", None),
    ("retry 9 --only failed", None),
    ("retry 1", USAGE),
    ("why nobody", None),
    ("why nobody@example.org", None),
    ("bounces fetch", CONFIGURATION),
    ("bounces show 99", FAILURE),
    ("bounces parse gone.eml", None),
    ("bounces parse .", None),
    ("subscribers add nobody", None),
    ("subscribers add a@b..c", None),
    ("subscribers add a@example.org --attribute x", USAGE),
    ("subscribers import gone.csv", None),
    ("subscribers import .", None),
    ("subscribers import config.toml", None),
    ("subscribers import people.csv --preset none", USAGE),
    ("subscribers import people.csv --encoding none", None),
    ("subscribers import people.csv --map x", USAGE),
    ("subscribers export --out gone/people.csv", FAILURE),
    ("subscribers export --where 'x ='", USAGE),
    ("subscribers revert 99", None),
    ("subscribers erase nobody@example.org", REFUSED),
    ("subscribers form --language x_y", None),
    ("tokens create x", USAGE),
    ("tokens revoke 99", None),
    *(
        (f"{command} {number}", USAGE)
        for command in ("tokens revoke", "bounces show", "webhooks remove", "subscribers revert")
        for number in ("9" * 30, "1e3", "-1", "٣")
    ),
    (f"bounces undo {'9' * 30} --reason x", FAILURE),
    (f"webhooks deliveries --webhook {'9' * 30}", USAGE),
    (f"subscribers list --limit {'9' * 30}", USAGE),
    (f"plan 1 --reply-time {'9' * 30}", USAGE),
    ("dkim keygen nowhere..example", None),
    ("dkim keygen example.org --out gone/key.pem", FAILURE),
    ("db backup config.toml", FAILURE),
    ("db backup gone/copy.db", FAILURE),
    ("doctor --dns nowhere", CONFIGURATION),
    ("doctor --dns 127.0.0.1:x", CONFIGURATION),
    ("serve --port 0", USAGE),
    ("serve --host 192.0.2.1", CONFIGURATION),
    ("serve --host nowhere.invalid", CONFIGURATION),
    ("bounces lmtp --host 192.0.2.1", CONFIGURATION),
    ("bounces lmtp --host nowhere.invalid", CONFIGURATION),
    ("outbox --host 0.0.0.0", USAGE),
    ("new ''", None),
    ("new ///", None),
    ("init .", REFUSED),
]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "news")
    (made.path / "people.csv").write_text("email\na@example.org\n", encoding="utf-8")
    return made


@pytest.mark.parametrize(("line", "code"), MISTAKES, ids=[line or "nothing" for line, _ in MISTAKES])
def test_mistake_is_explained(
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    code: ExitCode | None,
) -> None:
    monkeypatch.chdir(folder.path)
    found = run(shlex.split(line))
    err = capsys.readouterr().err
    assert [sign for sign in SIGNS if sign in err] == []
    assert found != ExitCode.DONE or code is None
    if code is not None:
        assert found == code, err


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space, then run the command again"),
        (errno.EROFS, "the disk is read-only: write to another folder, or make it writable"),
        (errno.EACCES, "check the name and the permissions"),
    ],
)
def test_fault_of_the_disk_has_its_own_remedy(
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    remedy: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "rendered")

    monkeypatch.chdir(folder.path)
    monkeypatch.setattr(Path, "mkdir", fail)
    assert run(["render", "1"]) == FAILURE
    assert capsys.readouterr().err == f"error: rendered: {os.strerror(number)}\n  next: {remedy}\n"


@pytest.mark.parametrize(
    ("platform", "python", "expected"),
    [
        ("linux", (3, 11), ""),
        ("darwin", (3, 14), ""),
        ("freebsd14", (3, 12), ""),
        (
            "win32",
            (3, 13),
            "Linux, macOS and other Unix systems, not on win32; on Windows, install it in WSL",
        ),
        ("emscripten", (3, 13), "not on emscripten; "),
        ("linux", (3, 10), "mailer needs Python 3.11 or newer, and this is 3.10; install a newer Python"),
    ],
)
def test_system_that_mailer_does_not_run_on_is_refused(
    platform: str, python: tuple[int, int], expected: str
) -> None:
    if not expected:
        check_system(platform, python)
        return
    with pytest.raises(ConfigError) as caught:
        check_system(platform, python)
    assert expected in str(caught.value)


def test_refusal_of_a_system_comes_before_anything_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert run(["send", "1"]) == CONFIGURATION
    assert capsys.readouterr().err.startswith(
        "error: mailer runs on Linux, macOS and other Unix systems, not on win32"
    )


def test_argument_that_is_not_utf8_is_shown_escaped(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.path)
    for command in ("send", "new", "why", "plan 1 --to", "tokens create --scope stats:read", "-C"):
        assert run([*command.split(), os.fsdecode(b"a\xffb")]) == USAGE
        assert (
            capsys.readouterr().err
            == "Error: the argument 'a\\udcffb' is not UTF-8; retype it, or rename the file\n"
        )


@pytest.mark.parametrize(
    "line", ["serve", "outbox", "console", "preview 1", "bounces lmtp"], ids=lambda line: str(line.split()[0])
)
def test_port_in_use_is_named_with_the_remedy(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    monkeypatch.chdir(folder.path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run([*line.split(), "--port", str(port)]) == CONFIGURATION
    remedy = "stop the other program, or choose another port with --port"
    expected = f"error: cannot listen on 127.0.0.1:{port}: the port is in use\n  next: {remedy}\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied"),
            "h:80: not allowed; ports below 1024 need root:",
        ),
        (
            OSError(errno.EADDRNOTAVAIL, "x ('h', 80)"),
            "h:80: this machine has no such address; use an address",
        ),
        (socket.gaierror(-2, "Name or service not known"), "h:80: no such host name; use an address"),
        (OSError(errno.ENOBUFS, "x ('h', 80)"), "h:80: no buffer space available; choose another address or"),
        (OSError("odd"), "h:80: input/output error; choose another address or port"),
    ],
)
def test_address_that_cannot_be_used_is_explained(error: OSError, expected: str) -> None:
    assert f"cannot listen on {expected}" in str(ListenError("h", 80, error))


def _commands(command: click.Command, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command, info_name="mailer")
    found = []
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        found += _commands(inner, (*path, name))
    return found


# What serves until it is stopped, asks on a terminal or name servers, or runs for long is not for any values.
_LONG = {"canary", "config_file", "debug", "directory", "edit", "links", "open", "watch", "workers"}
_ENDLESS = {"demo", "serve", "worker", "console", "outbox", "preview", "init", "man", "rehearse", "doctor"}


@cache
def commands() -> list[tuple[tuple[str, ...], click.Command]]:
    """Return those that any values can be tried with; this imports all of them."""
    return [
        (path, command)
        for path, command in _commands(mailer, ())
        if path[0] not in _ENDLESS
        and path not in {("bounces", "lmtp"), ("bounces", "fetch"), ("bounces", "pipe")}
    ]


WORDS = st.one_of(
    st.sampled_from(
        [
            "1",
            "001-short",
            "9",
            "-1",
            "0",
            "",
            " ",
            ".",
            "/",
            "~",
            "a@example.org",
            "é@é",
            "tag:a",
            "x=y",
            "=",
            "%",
        ]
    ),
    st.sampled_from(["people.csv", "config.toml", "subscribers.db", "'", '"', "x" * 500, "9" * 30]),
    st.text(st.characters(exclude_characters="\x00"), max_size=8),
)


@given(data=st.data())
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_words_after_any_command(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    monkeypatch.chdir(folder.path)
    path, command = data.draw(st.sampled_from(commands()), label="command")
    line = list(path)
    for parameter in command.params:
        if parameter.name in _LONG or not data.draw(st.booleans()):
            continue
        if isinstance(parameter, click.Option):
            line.append(parameter.opts[0])
            if not parameter.is_flag:
                line.append(data.draw(WORDS))
        else:
            line.append(data.draw(WORDS))
    run(line)
    err = capsys.readouterr().err
    assert [sign for sign in SIGNS if sign in err] == [], (line, err)


@pytest.mark.parametrize(
    "line",
    [
        ["users", "add", "mia", "--password-file", "config.toml", "--role", "nobody"],
        ["bounces", "parse", "config.toml", "another"],
    ],
    ids=" ".join,
)
def test_file_is_not_left_open_beside_a_mistake(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, line: list[str]
) -> None:
    monkeypatch.chdir(folder.path)
    assert run(line) == ExitCode.USAGE
    # A file that is still open is closed here, with a warning.
    gc.collect()


def remedies() -> list[tuple[str, str]]:
    """Return the literal parts of all remedies in the source, each with its file and line."""
    found = []
    for path in Path(package.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.keyword) or node.arg != "remedy":
                continue
            for text in ast.walk(node.value):
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found.append((f"{path}:{text.lineno}", text.value))
    return found


def test_no_remedy_has_a_second_label_after_next() -> None:
    found = remedies()
    assert len(found) > 300
    assert [one for one in found if re.match(r"\w+( it| them| one)?: ", one[1])] == []
