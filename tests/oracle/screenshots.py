"""The pictures of docs/images: issues as readers get them, small and large, by day and by night.

`make screenshots` makes them anew: those of `mailer preview --screenshot`, in few colours, so that they
stay small.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PIL import Image

from mailer.config import load
from mailer.review import sample
from mailer.web.operator import screenshots
from tests.conftest import PROJECT

ISSUES: Final = (
    PROJECT / "issues" / "001-a-bean-in-a-jar.md",
    PROJECT / "tests" / "oracle" / "elements.md",
)
_COLOURS: Final = 256


def make(folder: Path) -> None:
    """Write the pictures into `folder`; of an issue without images, those without them are left out."""
    settings = load(PROJECT / "config.toml")
    for issue in ISSUES:
        html = sample.render(settings, issue).html
        for path in screenshots.take(html, folder, issue.stem):
            if path.stem.endswith("images-off") and "<img" not in html:
                path.unlink()
                continue
            picture = Image.open(path).convert("RGB")
            few = picture.quantize(_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            few.save(path, optimize=True)
            print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    make(PROJECT / "docs" / "images")
