"""The documentation site is built without a warning, and needs no other host."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mailer.cli import mailer

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with dead links as errors."""
    target = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return target


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    loaded = r"<(?:script|img|iframe|source)[^>]*\bsrc=\"?(?:https?:)?//|<link[^>]*\bhref=\"?(?:https?:)?//"
    for page in site.rglob("*.html"):
        found = re.findall(loaded, page.read_text(encoding="utf-8"))
        assert [one for one in found if "canonical" not in one] == [], page


def test_reference_has_every_command_and_option(site: Path) -> None:
    page = (site / "reference" / "commands" / "index.html").read_text(encoding="utf-8")

    def check(command: click.Command, context: click.Context) -> None:
        assert context.command_path in page
        for parameter in command.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else ():
                assert option in page
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                check(inner, click.Context(inner, parent=context, info_name=name))

    check(mailer, click.Context(mailer, info_name="mailer"))


def test_search_finds_the_guides(site: Path) -> None:
    assert "one-click" in (site / "search" / "search_index.json").read_text(encoding="utf-8")
