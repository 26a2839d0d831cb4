"""The log: one JSON object a line, with ids, and without addresses unless they are wanted."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mailer.cli import run
from mailer.cli.app import App
from mailer.cli.send import worker_command
from mailer.errors import ExitCode
from mailer.logs import REQUEST, RUN, JsonLines, set_up, without_addresses
from mailer.web.requests import RequestIds
from tests.web.conftest import serving


@pytest.fixture
def root() -> Iterator[None]:
    """Put the root logger back as it was."""
    logger, ours = logging.getLogger(), logging.getLogger("mailer")
    before = list(logger.handlers), logger.level, ours.level
    yield
    logger.handlers, level, own = before
    logger.setLevel(level)
    ours.setLevel(own)


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_failure_is_one_object_with_its_run_and_no_address(
    root: None, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up("json")
    token = RUN.set(7)
    try:
        raise ValueError("ana@example.org is gone\nsecond line")
    except ValueError:
        logging.getLogger("mailer.x").exception("no letter to <ana.b+c@example.org>")
    finally:
        RUN.reset(token)
    (line,) = lines(capsys.readouterr().err)
    assert (line["level"], line["logger"], line["run"]) == ("error", "mailer.x", 7)
    assert line["message"] == "no letter to <…@example.org>"
    assert line["error"] == "ValueError"
    assert "…@example.org is gone\nsecond line" in str(line["traceback"])
    assert "ana" not in json.dumps(line)


def test_addresses_are_kept_when_they_are_wanted(root: None, capsys: pytest.CaptureFixture[str]) -> None:
    set_up("json", addresses=True)
    logging.getLogger("mailer").warning("ana@example.org")
    assert lines(capsys.readouterr().err)[0]["message"] == "ana@example.org"


@given(st.text(), st.text("abcdefgh.+-_é", min_size=1), st.sampled_from(["example.org", "bücher.example"]))
def test_no_local_part_is_left(around: str, local: str, domain: str) -> None:
    shown = without_addresses(f"{around} <{local}@{domain}> {around}")
    assert f"<{local}@" not in shown
    assert f"…@{domain}" in shown


@given(st.text())
def test_any_message_is_one_line(text: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (text,), None)
    line = JsonLines(addresses=True).format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == text


def test_command_says_everything_in_json(
    root: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text("")
    assert run(["send", "7", "--log-format", "json", "-C", str(tmp_path)]) == ExitCode.FAILURE
    (line,) = lines(capsys.readouterr().err)
    assert (line["level"], "no issue '7'" in str(line["message"])) == ("error", True)


@pytest.mark.parametrize("addresses", [True, False])
def test_workers_of_a_send_log_as_it_does(
    root: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, addresses: bool
) -> None:
    app = App()
    app.config_file = tmp_path / "config.toml"
    app.config_file.write_text("")
    app.log_format, app.log_addresses = "json", addresses
    command = worker_command(app, "ana@example.org")
    assert command[1:3] == ["-m", "mailer"]
    assert run([*command[3:], "1/2"]) == ExitCode.REFUSED
    (line,) = lines(capsys.readouterr().err)
    shown = "ana@example.org" if addresses else "…@example.org"
    assert line["message"] == f"'{shown}' is not in the queue; send it with: mailer send {shown}"


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [("abcdef-0123", True), ("short", False), ("x" * 65, False), ("a b defgh", False)],
)
def test_log_lines_of_a_request_carry_the_id_of_its_response(
    root: None, capsys: pytest.CaptureFixture[str], given_id: str, kept: bool
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            logging.getLogger("mailer.web").warning("seen")
            await PlainTextResponse("ok")(scope, receive, send)

    set_up("json")
    wrapped: ASGIApp = RequestIds(app)
    with serving(wrapped) as url:
        answer = httpx.get(url, headers={"x-request-id": given_id}, trust_env=False)
    seen = [line for line in lines(capsys.readouterr().err) if line["message"] == "seen"]
    assert [line["request"] for line in seen] == [answer.headers["x-request-id"]]
    assert (answer.headers["x-request-id"] == given_id) == kept
    assert REQUEST.get() is None
