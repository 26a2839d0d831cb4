"""`mailer config check`: what only shows when it is used is looked at beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailer.cli import run
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
