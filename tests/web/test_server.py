"""`mailer serve` as a process: it says where it is, stops when told, and says why it cannot start."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from mailer.cli import run
from mailer.errors import ExitCode
from tests.end_to_end.newsletter import Folder
from tests.ports import free_port
from tests.web.conftest import NO_TLS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text('[newsletter]\nname = "The Weekly"\n')
    return tmp_path


def test_serve_answers_until_it_is_stopped(folder: Path) -> None:
    port = free_port()
    command = [str(Path(sys.executable).with_name("mailer")), "serve", "-C", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert f"http://127.0.0.1:{port}" in process.stderr.readline()
        health = httpx.get(f"http://127.0.0.1:{port}/healthz", verify=NO_TLS).text
        process.send_signal(signal.SIGTERM)
        out, complaints = process.communicate()
    tasks = ("statistics", "webhooks", "old events", "retention", "changes", "sign-ups", "letters")
    assert health.splitlines() == ["ok", *(f"{name}: ok" for name in tasks)]
    assert (process.returncode, out, complaints) == (0, "", "")


def test_port_in_use_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code = run(["serve", "-C", str(folder), "--port", port])
    said = capsys.readouterr().err
    assert code == ExitCode.CONFIGURATION
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "--port" in said


@pytest.mark.parametrize(("proxies", "believed"), [("", True), ('proxies = ["10.0.0.0/8"]', False)])
def test_only_a_proxy_that_is_named_says_where_a_wish_comes_from(
    tmp_path: Path, proxies: str, believed: bool
) -> None:
    port = free_port()
    folder = Folder(tmp_path / "news", f"[web]\n{proxies}\n[signup]\nper_client = 1\n")
    serving = folder.start("serve", "--port", str(port))
    assert f"http://127.0.0.1:{port}" in serving.stderr.readline()
    codes = [
        httpx.post(
            f"http://127.0.0.1:{port}/subscribe",
            data={"email": f"jo{number}@example.org"},
            headers={"x-forwarded-for": f"192.0.2.{number}"},
            verify=NO_TLS,
        ).status_code
        for number in range(2)
    ]
    serving.terminate()
    assert serving.wait(30) == 0
    assert codes == ([200, 200] if believed else [200, 429])
