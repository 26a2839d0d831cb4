"""Input that would stop, swell or fool the process: each ends with an error that names the place."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from mailer.config import Brand
from mailer.errors import ExitCode, SourceError
from mailer.rendering.build import build_edition
from mailer.rendering.edition import Edition
from mailer.rendering.source import parse_issue, read_issue
from tests.rendering.test_build import NEWSLETTER, ROOT, SAMPLE, TEMPLATES


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A copy of the templates that a test may spoil."""
    return Path(shutil.copytree(TEMPLATES, tmp_path / "email_templates"))


def built(body: str, folder: Path, templates: Path = TEMPLATES) -> Edition:
    issue = parse_issue(f"---\ntitle: Hello\n---\n{body}", folder / "002-test.md")
    return build_edition(issue, NEWSLETTER, Brand(), templates)


def test_template_without_footer_still_builds_and_text_keeps_the_way_out(templates: Path) -> None:
    base = templates / "base.mjml.j2"
    base.write_text("\n".join(line for line in base.read_text().split("\n") if "block footer" not in line))
    edition = built("Hello", templates.parent, templates)
    assert "urls.unsubscribe" not in edition.html
    assert "urls.unsubscribe" in edition.text


def test_missing_partial_is_named(templates: Path) -> None:
    (templates / "partials" / "footer.mjml.j2").unlink()
    with pytest.raises(SourceError, match=r"partials/footer\.mjml\.j2: there is no such template"):
        built("Hello", templates.parent, templates)


def test_templates_that_include_each_other_are_refused(templates: Path) -> None:
    (templates / "partials" / "footer.mjml.j2").write_text('{% include "partials/header.mjml.j2" %}')
    (templates / "partials" / "header.mjml.j2").write_text('{% include "partials/footer.mjml.j2" %}')
    with pytest.raises(SourceError, match=r"issue\.mjml\.j2: the template includes itself") as caught:
        built("Hello", templates.parent, templates)
    assert caught.value.exit_code in (ExitCode.FAILURE, ExitCode.FINDINGS)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("issue.mjml.j2", "{% block content %}\n{% if %}", r"issue\.mjml\.j2:2: "),
        ("issue.mjml.j2", "<mjml><mj-body>\n<mj-txt>x</mj-txt></mj-body></mjml>", "did you mean <mj-text>"),
        ("inline.css.j2", '@import "secret.css";', r"inline\.css\.j2:1 after filling: an @ rule"),
        ("partials/quote.html.j2", "<blockquote></blockquote>", r"quote\.html\.j2: .*content.* 0 times"),
        ("partials/divider.html.j2", "{{ colour.nothing }}", r"divider\.html\.j2:1: "),
    ],
)
def test_broken_template_is_reported_with_its_file(templates: Path, name: str, text: str, said: str) -> None:
    (templates / name).write_text(text)
    with pytest.raises(SourceError, match=said):
        built("> Quoted\n\n---\n", templates.parent, templates)


def test_image_of_fifty_megabytes_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate(50_000_000)
    with pytest.raises(SourceError, match=r"002-test\.md:6: 'large\.png' is larger than 20 MB"):
        built("One.\n\n![a](large.png)", tmp_path)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_image_that_swells_is_refused_before_it_does(tmp_path: Path) -> None:
    bomb = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    bomb += _chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000)) + _chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(SourceError, match=r"'bomb\.png' has more than 50 million pixels"):
        built("![a](bomb.png)", tmp_path)


@pytest.mark.parametrize("name", ["drawing.svg", "drawing.png"])
def test_svg_is_refused_under_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    with pytest.raises(SourceError, match=f"{name}"):
        built(f"![a]({name})", tmp_path)


@pytest.mark.parametrize("source", ["../secret.png", "/etc/hostname", "%2e%2e/secret.png"])
def test_image_from_elsewhere_is_refused(tmp_path: Path, source: str) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    (tmp_path / "issues").mkdir()
    with pytest.raises(SourceError, match=r"002-test\.md:4: "):
        built(f"![a]({source})", tmp_path / "issues")


@pytest.mark.parametrize("opening", ["> ", "- ", "*a ", "**a ", "[a", "::: note\n", "<div>", "![", "~~a "])
def test_nesting_thousands_deep_ends(tmp_path: Path, opening: str) -> None:
    outcome = ""
    try:
        outcome = built(opening * 3_000 + "x", tmp_path).text
    except SourceError as error:
        outcome = error.message
    assert "002-test.md:" in outcome or "x" in outcome


def test_issue_of_five_megabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "001-large.md"
    path.write_text("---\ntitle: Large\n---\n" + "All work and no play. " * 240_000)
    with pytest.raises(SourceError, match=r"001-large\.md"):
        read_issue(path)


def test_same_bytes_under_any_hash_seed_and_folder(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mailer.config import Brand, Newsletter;"
        "from mailer.rendering.build import build_edition; from mailer.rendering.source import read_issue;"
        "e = build_edition(read_issue(Path(sys.argv[1])), Newsletter(name='N'), Brand(),"
        " Path(sys.argv[2]), track_clicks=True); print(e.digest)"
    )
    digests = set()
    for seed in ("0", "4242"):
        copy = tmp_path / seed
        shutil.copytree(TEMPLATES, copy / "email_templates")
        shutil.copytree(SAMPLE.parent, copy / "issues")
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                program,
                str(copy / "issues" / SAMPLE.name),
                str(copy / "email_templates"),
            ],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_template_changed_later_changes_nothing_that_was_frozen(templates: Path) -> None:
    edition = built("Hello {{ subscriber.name | default('you') }}", templates.parent, templates)
    frozen = edition.to_json()
    footer = templates / "partials" / "footer.mjml.j2"
    footer.write_text(footer.read_text().replace("You are receiving", "Somebody receives"))
    assert "Somebody receives" in built("Hello", templates.parent, templates).html
    assert "Somebody receives" not in Edition.from_json(frozen).html
    assert Edition.from_json(frozen) == edition
