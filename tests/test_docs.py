"""What the documentation says can be done: its links lead somewhere, its commands and keys exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import click
import msgspec
import pytest

from mailer.cli import mailer
from mailer.config import Section, Settings, Share
from mailer.config.reference import reference as configuration_reference

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
REFERENCE = ROOT / "docs" / "reference" / "configuration.md"


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Return what a page's headings are linked by, as code forges make it."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(
        r"^```.*?^```|``[^\n]*?``|`[^`\n]*`",
        "",
        page.read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), link
        if anchor:
            assert anchor in anchors(file), link


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each `mailer …` that a page has, in a line of its own or within one."""
    text = page.read_text(encoding="utf-8")
    within = re.findall(r"`(mailer [a-z][^`\n]*)`", text)
    alone = re.findall(r"^(?:\$ |ExecStart=/usr/local/bin/)(mailer [a-z].*)$", text, re.MULTILINE)
    for line in [*within, *alone]:
        first = re.split(r" && |  +# | \| |…|;", line)[0]
        yield shlex.split(first)[1:]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=named)
def test_commands_exist_with_their_options(page: Path) -> None:
    for words in commands(page):
        command: click.Command = mailer
        known = {option for one in command.params for option in one.opts}
        for word in words:
            if isinstance(command, click.Group):
                if word.startswith("-"):
                    assert word.partition("=")[0] in known, words
                    continue
                found = command.get_command(click.Context(command), word)
                assert found is not None, words
                command = found
                known |= {option for one in command.params for option in one.opts}
            elif word.startswith("-") and word != "-":
                assert word.partition("=")[0] in known, words


def test_commands_are_found() -> None:
    assert sum(1 for page in PAGES for _ in commands(page)) > 100


def test_architecture_names_every_package_and_no_other() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `mailer\.(\w+)` \|", page, re.MULTILINE))
    found = {path.stem for path in (ROOT / "mailer").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert found - {"__init__", "__main__", "__pycache__"} == named


def tables(kind: Any, title: str) -> Iterator[tuple[str, Any]]:
    """Yield the tables of config.toml as the reference titles them, and what each holds."""
    for name, hint in get_type_hints(kind, include_extras=False).items():
        inner = [one for one in (hint, *get_args(hint)) if isinstance(one, type) and issubclass(one, Section)]
        if not inner:
            continue
        path = f"{title}.{name}" if title else name
        is_list, is_map = get_args(hint)[1:] == (...,), len(get_args(hint)) == 2 and get_origin(hint) is dict
        yield (f"[[{path}]]" if is_list else f"[{path}.NAME]" if is_map else f"[{path}]"), inner[0]
        yield from tables(inner[0], f"{path}.NAME" if is_map else path)


def documented(title: str) -> dict[str, str]:
    """Return the keys of a table in the reference with their documented defaults."""
    section = REFERENCE.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    found: dict[str, str] = {}
    for row in re.findall(r"^\| `.*$", section, re.MULTILINE):
        keys, defaults = (re.findall(r"`([^`]*)`", cell) for cell in row.split("|")[1:3])
        assert len(defaults) in (0, len(keys)), row
        found |= dict(zip(keys, defaults or [""] * len(keys), strict=True))
    return found


def test_drawing_has_the_layers_that_imports_are_checked_against() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    drawing = (ROOT / "docs" / "images" / "architecture.svg").read_text(encoding="utf-8")
    rows: dict[str, list[str]] = {}
    for height, name in re.findall(r'<text class="n" x="[^"]*" y="([^"]*)">([^<]*)<', drawing):
        rows.setdefault(height, []).append(name)
    assert list(rows.values()) == [layer.split(" | ") for layer in layers if layer != "__main__"]


def test_configuration_reference_is_generated_from_the_settings() -> None:
    assert configuration_reference() == REFERENCE.read_text(encoding="utf-8"), "run: make docs"


@pytest.mark.parametrize(("title", "kind"), list(tables(Settings, "")), ids=str)
def test_reference_has_every_key_and_its_default(title: str, kind: Any) -> None:
    told = documented(title)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    assert told.keys() == fields.keys()
    for name, field in fields.items():
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        if default in (msgspec.NODEFAULT, None):
            assert told[name] == "", name
        else:
            assert _equal(tomllib.loads(f"it = {told[name]}")["it"], default), name


def _equal(written: Any, default: Any) -> bool:
    if isinstance(default, timedelta):
        return bool(msgspec.convert(written, timedelta) == default)
    if isinstance(default, Share):
        return float(written.rstrip("%")) / 100 == pytest.approx(default)
    if isinstance(default, tuple):
        return tuple(written) == default
    return bool(written == (str(default) if isinstance(default, Path) else default))
