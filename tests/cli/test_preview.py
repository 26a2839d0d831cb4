"""`mailer preview` as an operator runs it: the page until it is stopped, or pictures."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image

from mailer.cli import run
from mailer.errors import ExitCode
from mailer.review import chromium
from tests.end_to_end.newsletter import Folder
from tests.end_to_end.spawner import Command
from tests.programs import program

DARK = "---\ntitle: A short one\n---\n\n![A jar](jar.png)\n\nHello.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "news")


@pytest.fixture
def no_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide Chromium, whose start takes seconds on a busy machine."""
    monkeypatch.setenv("PATH", str(tmp_path))


@contextmanager
def started(folder: Folder, *options: str) -> Iterator[tuple[Command, str]]:
    """Start a preview; yield its process and its URL."""
    process = folder.start("preview", "1", *options)
    assert process.stderr is not None
    assert process.stdout is not None
    try:
        yield process, process.stderr.readline().split()[0]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
        process.stdout.close()


@pytest.mark.usefixtures("no_browser")
def test_page_is_served_until_stopped_though_a_browser_listens(folder: Folder) -> None:
    with started(folder) as (process, url), httpx.Client(base_url=url, timeout=60) as client:
        assert url.startswith("http://127.0.0.1:")
        assert "A short one" in client.get("/").text
        with client.stream("GET", "/events") as events:
            chunks = events.iter_lines()
            next(chunks)
            process.send_signal(signal.SIGTERM)
            # The stream has an end of its own: it is not cut off when patience is over.
            assert [line for line in chunks if line.startswith("event")] == []
        assert process.wait(60) == ExitCode.DONE


@pytest.mark.usefixtures("no_browser")
def test_one_subscribers_mail_is_shown(folder: Folder) -> None:
    fields = "{{ subscriber.name }}, {{ subscriber.city }}, {{ subscriber.tags | join }}."
    issue = f"---\ntitle: One\n---\n\n{fields}\n"
    (folder.path / "issues" / "001-short.md").write_text(issue, encoding="utf-8")
    people = folder.path / "people.csv"
    people.write_text("email,name,city\nJo.B@example.com,Jo,Ghent\n", encoding="utf-8")
    assert run(["subscribers", "import", str(people), "--tag", "vip", "-C", str(folder.path)]) == 0
    with started(folder, "--as", "jo.b@example.com") as (_, url):
        assert "Jo, Ghent, vip." in httpx.get(f"{url}/?view=text", timeout=60).text


@pytest.mark.parametrize("options", [[], ["--screenshot", "pictures"]])
def test_unknown_reader_and_issue_are_errors_before_serving(
    folder: Folder, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    at = [*options, "-C", str(folder.path)]
    assert run(["preview", "1", "--as", "nobody@example.com", *at]) == ExitCode.CONFIGURATION
    assert "nobody@example.com: no such subscriber" in capsys.readouterr().err
    assert run(["preview", "1", "--as", "nobody", *at]) == ExitCode.FAILURE
    assert run(["preview", "7", *at]) == ExitCode.FAILURE
    assert "there is no issue '7'" in capsys.readouterr().err


def test_missing_chromium_is_a_configuration_error(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chromium, "NAMES", ("no-such-browser",))
    pictures = tmp_path / "pictures"
    code = run(["preview", "1", "--screenshot", str(pictures), "-C", str(folder.path)])
    assert code == ExitCode.CONFIGURATION
    assert "there is no Chromium on this machine" in capsys.readouterr().err
    assert not pictures.exists()


def test_error_quotes_a_browser_that_exits_immediately(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken-browser"
    broken.write_text("#!/bin/sh\necho 'no display here' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(chromium, "NAMES", (str(broken),))
    before = set(os.listdir("/proc/self/fd"))
    code = run(["preview", "1", "--screenshot", str(tmp_path / "pictures"), "-C", str(folder.path)])
    assert code == ExitCode.FAILURE
    assert "broken-browser ended unexpectedly: no display here" in capsys.readouterr().err
    # Fewer where an earlier test left one to be collected.
    assert set(os.listdir("/proc/self/fd")) <= before


@pytest.mark.servers
def test_pictures_have_both_widths_schemes_and_images(folder: Folder, tmp_path: Path) -> None:
    program(*chromium.NAMES)
    (folder.path / "issues" / "001-short.md").write_text(DARK, encoding="utf-8")
    Image.new("RGB", (300, 200), "#ff0000").save(folder.path / "issues" / "jar.png")
    pictures = tmp_path / "pictures"
    assert run(["preview", "1", "--screenshot", str(pictures), "-C", str(folder.path)]) == ExitCode.DONE
    found = {}
    for path in pictures.iterdir():
        with Image.open(path) as opened:
            found[path.stem] = opened.convert("RGB")
    assert {name: picture.width for name, picture in found.items()} == {
        f"001-short-{width}-{scheme}{images}": width
        for width in (375, 700)
        for scheme in ("light", "dark")
        for images in ("", "-images-off")
    }
    for name, picture in found.items():
        red = any(r > 240 and g < 20 and b < 20 for r, g, b in pixels(picture))
        assert (name, red) == (name, "images-off" not in name)
        corner = picture.getpixel((1, picture.height - 2))
        assert isinstance(corner, tuple)
        assert (name, sum(corner) < 200) == (name, "dark" in name)


def pixels(picture: Image.Image) -> Iterator[tuple[int, int, int]]:
    """Yield a sample of the pixels of an RGB picture."""
    octets = picture.tobytes()
    for at in range(0, len(octets), 3 * 101):
        yield octets[at], octets[at + 1], octets[at + 2]
