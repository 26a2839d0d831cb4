"""`mailer console` and `mailer users` without the packages that they need."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mailer.cli import run


@pytest.mark.parametrize("command", [["console"], ["users", "list"]])
@pytest.mark.parametrize("package", ["nicegui", "argon2", "pyotp"])
def test_missing_extra_is_named_with_the_command_that_installs_it(
    tmp_path: Path,
    command: list[str],
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "config.toml").write_text("", encoding="utf-8")
    # Python refuses to import a module whose entry is None.
    monkeypatch.setitem(sys.modules, package, None)
    assert run([*command, "-C", str(tmp_path)]) == 6
    assert capsys.readouterr().err == (
        f"error: the console needs packages that are not installed ({package})\n"
        "  next: install them: pip install 'mailer[console]'\n"
    )
