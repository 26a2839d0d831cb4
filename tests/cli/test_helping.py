"""Help pages, completion, manual pages, and config.toml found from a folder below it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click
import pytest

from mailer.cli import COMMANDS, mailer, run
from mailer.cli.helping import contexts
from tests.end_to_end.newsletter import Folder
from tests.programs import program


@pytest.mark.parametrize(
    "names", [[], *([name] for name in COMMANDS), ["db", "backup"], ["subscribers", "import"]]
)
def test_help_is_that_of_the_option(capsys: pytest.CaptureFixture[str], names: list[str]) -> None:
    assert run([*names, "--help"]) == 0
    page = capsys.readouterr().out
    assert run(["help", *names]) == 0
    assert capsys.readouterr().out == page


@pytest.mark.parametrize("names", [["nothing"], ["send", "more"], ["db", "nothing"]])
def test_help_of_no_command(capsys: pytest.CaptureFixture[str], names: list[str]) -> None:
    assert run(["help", *names]) == 2
    assert f"There is no command '{' '.join(names)}'" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_valid(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    assert run(["completion"]) == 0
    script = capsys.readouterr().out
    assert "_MAILER_COMPLETE" in script
    assert run(["completion", shell]) == 0
    assert capsys.readouterr().out == script
    if found := shutil.which(shell):
        subprocess.run([found, "-n"], input=script, text=True, check=True)


def test_manual_pages_are_complete_and_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["man", str(tmp_path)]) == 0
    pages = sorted(path.name for path in tmp_path.iterdir())
    assert f"{len(pages)} pages" in capsys.readouterr().out
    assert {f"mailer-{name}.1" for name in COMMANDS} < set(pages)
    assert {"mailer.1", "mailer-db-backup.1"} < set(pages)
    page = (tmp_path / "mailer-send.1").read_text()
    assert page.startswith('.TH "MAILER-SEND" "1"')
    assert "\\-\\-new\\-only" in page


def test_manual_pages_format_without_warnings(tmp_path: Path) -> None:
    groff = program("groff")
    assert run(["man", str(tmp_path)]) == 0
    pages = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run([groff, "-K", "utf8", "-man", "-ww", "-z", *pages], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_config_is_found_from_a_folder_below(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "news")
    below = folder.path / "issues" / "pictures"
    below.mkdir()
    monkeypatch.chdir(below)
    assert run(["status", "--json"]) == 0
    assert '"drafts": ["001-short"]' in capsys.readouterr().out
    assert (folder.path / "subscribers.db").exists()
    # A folder that is named is taken as it is.
    assert run(["status", "-C", str(below)]) == 6


def test_every_option_says_what_it_does_and_what_it_takes() -> None:
    options = [
        (context.command_path, option, option.make_metavar(context))
        for context in contexts(mailer, click.Context(mailer, info_name="mailer"))
        for option in context.command.params
        if isinstance(option, click.Option)
    ]
    assert len(options) > 500
    assert [(path, option.opts) for path, option, _ in options if not option.help] == []
    vague = {"INTEGER", "INTEGER RANGE", "FLOAT", "FLOAT RANGE", "PATH", "FILE OR DIRECTORY"}
    assert [(path, option.opts) for path, option, metavar in options if metavar in vague] == []


def test_no_number_of_an_option_may_be_nan(capsys: pytest.CaptureFixture[str]) -> None:
    """`nan` passes every range, and waiting for `nan` seconds never waits."""
    numbers = [
        [*context.command_path.split()[1:], option.opts[0]]
        for context in contexts(mailer, click.Context(mailer, info_name="mailer"))
        for option in context.command.params
        if isinstance(option.type, click.types.FloatParamType)
    ]
    assert ["worker", "--every"] in numbers
    for number in numbers:
        for value in ("nan", "-nan", "inf", "-inf", "1e999"):
            assert run([*number, value]) == 2
            assert f"Invalid value for '{number[-1]}'" in capsys.readouterr().err
