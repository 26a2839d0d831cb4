"""`mailer config check`: what only shows when it is used is looked at beforehand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailer.cli import run
from mailer.cli.app import App
from mailer.errors import ExitCode


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[segments]\nfine = 'tag:a'\n\nbad = 'tag:a adn b'\n",
            "config.toml:4: error: 'segments.bad': column 7",
        ),
        ("[segments]\nround = '@round'\n", "config.toml:2: error: 'segments.round': column 2"),
        ("[[dkim]]\ndomain = 'example.org'\nselector = 's'\nkey_file = 'gone.pem'\n", "gone.pem"),
        ("[relays.a]\nhost = 'a.example.org'\nuser = 'u'\npassword_file = 'gone'\n", "gone"),
        ("[paths]\ntemplates = 'mine'\n", "fr.po: missing msgstr"),
        (
            "[web]\nport = 1\npublic_url = 'https://example.org/news'\n",
            "config.toml:3: 'web.public_url': it must",
        ),
    ],
)
def test_each_problem_names_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    texts = tmp_path / "mine" / "texts"
    texts.mkdir(parents=True)
    (texts / "fr.po").write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\nmsgid "broken\n', encoding="utf-8"
    )
    assert run(["-C", str(tmp_path), "config", "check"]) == ExitCode.CONFIGURATION
    assert told in capsys.readouterr().err


def test_file_above_is_used_only_if_it_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """config.toml may name commands to run, so one that somebody else put above our folder is ignored."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    outer = tmp_path / "config.toml"
    outer.write_text("")
    monkeypatch.chdir(inner)
    assert App().config_path == outer
    owners = {outer: 12_345}
    real = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = real(path, follow_symlinks=follow_symlinks)
        fields = list(found)
        fields[4] = owners.get(path, found.st_uid)
        return os.stat_result(fields)

    monkeypatch.setattr(Path, "stat", stat)
    assert App().config_path == Path("config.toml")
    owners[outer] = os.getuid()
    assert App().config_path == outer
    owners[outer] = 0
    assert App().config_path == outer
    # One in between is nearer, and one that is a folder is none.
    (tmp_path / "a" / "config.toml").mkdir()
    assert App().config_path == outer
    (inner / "config.toml").write_text("")
    assert App().config_path == Path("config.toml")
