"""The pictures of docs/images: issues as readers get them, small and large, by day and by night.

`make screenshots` makes them anew; `python -m tests.oracle.screenshots ISSUE FOLDER` those of any issue.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Browser, Route, sync_playwright

from mailer.config import load
from mailer.delivery import sample
from tests.conftest import PROJECT
from tests.oracle.conftest import WIDTHS
from tests.programs import program

ISSUES: Final = (
    PROJECT / "issues" / "001-a-bean-in-a-jar.md",
    PROJECT / "tests" / "oracle" / "elements.md",
)
SCHEMES: Final = ("light", "dark")
_IMAGE: Final = re.compile(r'(<img [^>]*src=")[^"]+')
_COLOURS: Final = 256


def shots(html: str, browser: Browser) -> dict[str, Image.Image]:
    """Return pictures of a mail, whole, by what they show: `375-dark-no-images` and so on."""
    found = {}
    for width in WIDTHS:
        for scheme in SCHEMES:
            page = browser.new_page(viewport={"width": width, "height": 600}, color_scheme=scheme)
            page.route("**/*", _refuse)
            without = _IMAGE.sub(r"\1cid:none", html)
            for suffix, content in {"": html, "-no-images": without}.items():
                if suffix and content == html:
                    continue
                page.set_content(content)
                picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
                found[f"{width}-{scheme}{suffix}"] = picture.convert("RGB")
            page.close()
    return found


def _refuse(route: Route) -> None:
    route.abort()


def main(issues: tuple[Path, ...], folder: Path) -> None:
    """Write the pictures of `issues` into `folder`, in few colours, so that they stay small."""
    settings = load(PROJECT / "config.toml")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=program("chromium", "chromium-browser"), args=["--no-sandbox"]
        )
        for issue in issues:
            html = sample.render(settings, issue).html
            for name, picture in shots(html, browser).items():
                path = folder / f"{issue.stem}-{name}.png"
                few = picture.quantize(_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
                few.save(path, optimize=True)
                print(f"{path}  {path.stat().st_size:,} bytes")
        browser.close()


if __name__ == "__main__":
    if given := [Path(argument).resolve() for argument in sys.argv[1:]]:
        main((given[0],), given[1])
    else:
        main(ISSUES, PROJECT / "docs" / "images")
