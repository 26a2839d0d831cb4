"""Make the pictures of docs/images: issues as readers get them, on phones and desktops, light and dark.

`make screenshots` runs this. The pictures are those of `mailer preview --screenshot`, with few colours, which
keeps them small.
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
# Difficult issues, each with the variants that are worth a picture.
DIFFICULT: Final = {
    "courses": ("375-light", "700-light"),
    "hebrew": ("375-light", "700-light"),
    "chinese": ("375-light", "700-dark"),
    "colours": ("375-light", "375-dark", "700-dark"),
}
_COLOURS: Final = 256


def make(folder: Path) -> None:
    """Write the pictures into `folder`; those without images only for issues that have some."""
    settings = load(PROJECT / "config.toml", flags={"rendering": {"raw_html": True}})
    for issue in (*ISSUES, *(PROJECT / "tests" / "oracle" / f"{name}.md" for name in DIFFICULT)):
        html = sample.render(settings, issue).html
        for path in screenshots.take(html, folder, issue.stem):
            variant = path.stem.removeprefix(f"{issue.stem}-")
            without_images = variant.endswith("images-off") and "<img" not in html
            if without_images or variant not in DIFFICULT.get(issue.stem, (variant,)):
                path.unlink()
                continue
            picture = Image.open(path).convert("RGB")
            few = picture.quantize(_COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
            few.save(path, optimize=True)
            print(f"{path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    make(PROJECT / "docs" / "images")
