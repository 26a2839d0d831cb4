"""Pictures of a mail, made by a Chromium that is installed on this machine."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageChops

from mailer.errors import ConfigError
from mailer.web.preview import WIDTHS, shown

_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SECONDS: Final = 120
# Chromium draws no higher; a mail of this height is longer than any reader's patience.
_HEIGHT: Final = 16_000
_SHEET: Final = """\
<!doctype html><meta charset="utf-8">
<style>html, body {{ margin: 0; }} body {{ display: flex; }}
iframe {{ flex: none; border: 0; width: {width}px; height: {height}px; }}</style>
"""
_FRAME: Final = '<iframe sandbox src="{name}" scrolling="no"></iframe>\n'
_NO_IMAGES: Final = '<meta http-equiv="Content-Security-Policy" content="img-src \'none\'">'


def take(html: str, folder: Path, name: str) -> Iterator[Path]:
    """Write a PNG for each width, light and dark, with and without images; yield where each is.

    Raises `ConfigError` when there is no Chromium, or it fails.
    """
    browser = next((found for one in _PROGRAMS if (found := shutil.which(one))), None)
    if browser is None:
        raise ConfigError(
            "screenshots need Chromium, which is not installed",
            remedy="install it, e.g. apt install chromium",
        )
    folder.mkdir(parents=True, exist_ok=True)
    variants = {
        f"{'dark' if dark else 'light'}{'' if images else '-images-off'}": _variant(html, dark, images)
        for dark, images in itertools.product((False, True), (True, False))
    }
    for width in WIDTHS.values():
        pictures = _pictures(browser, list(variants.values()), width)
        for variant, picture in zip(variants, pictures, strict=True):
            target = folder / f"{name}-{width}-{variant}.png"
            picture.save(target)
            yield target


def _variant(html: str, dark: bool, images: bool) -> str:
    html = shown(html, dark=dark)
    return html if images else html.replace("<head>", "<head>" + _NO_IMAGES, 1)


def _pictures(browser: str, mails: Sequence[str], width: int) -> Iterator[Image.Image]:
    """Yield the picture of each mail; one start of the browser draws them side by side."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # In frames, since Chromium's own window is never as narrow as a phone.
        sheet = _SHEET.format(width=width, height=_HEIGHT)
        for at, mail in enumerate(mails):
            (folder / f"{at}.html").write_text(mail, encoding="utf-8")
            sheet += _FRAME.format(name=f"{at}.html")
        (folder / "sheet.html").write_text(sheet, encoding="utf-8")
        _draw(browser, folder, width * len(mails))
        with Image.open(folder / "sheet.png") as drawn:
            whole = drawn.convert("RGB")
    for at in range(len(mails)):
        yield _cut(whole.crop((at * width, 0, (at + 1) * width, whole.height)))


def _draw(browser: str, folder: Path, width: int) -> None:
    command = [
        browser, "--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{_HEIGHT}",
        f"--screenshot={folder / 'sheet.png'}", (folder / "sheet.html").as_uri(),
    ]  # fmt: skip
    if os.geteuid() == 0:
        # Chromium's own sandbox refuses to run as root; the mail may run no script.
        command.insert(1, "--no-sandbox")
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{browser} did not answer within {_SECONDS} seconds") from error
    if done.returncode or not (folder / "sheet.png").exists():
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ConfigError(f"{browser} ended with {done.returncode}: {said[-1] if said else 'nothing said'}")


def _cut(page: Image.Image) -> Image.Image:
    """Return the page without the empty rest below the mail."""
    back = Image.new("RGB", page.size, page.getpixel((0, page.height - 1)))
    box = ImageChops.difference(page, back).getbbox()
    return page.crop((0, 0, page.width, page.height if box is None else min(page.height, box[3] + 24)))
