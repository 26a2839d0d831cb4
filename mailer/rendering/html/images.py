"""Local images: checked, brought to the size that mail shows, and carried inside the message."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from mailer.errors import SourceError
from mailer.rendering.edition import InlineImage

if TYPE_CHECKING:
    from PIL import Image

MAX_WIDTH: Final = 536
"""The text column in CSS pixels: 600 less the padding on both sides."""
MAX_FILE_BYTES: Final = 20_000_000
MAX_PIXELS: Final = 50_000_000
_JPEG_QUALITY: Final = 82


@dataclass(frozen=True, slots=True)
class Picture:
    """What an `<img>` needs: its address and its size in CSS pixels."""

    src: str
    width: int
    height: int | None


def prepared(
    source: str, root: Path, beside: Path, width: int | None, place: str
) -> tuple[Picture, InlineImage]:
    """Return the image at `source` (relative to `beside`, inside `root`) re-encoded for mail.

    Shrunk to twice the width at which it is shown, turned as its EXIF says, all metadata gone.
    PNG and GIF come out as PNG, everything else as JPEG. Raises `SourceError` at `place`.
    """
    from PIL import Image

    path = _checked_path(source, root, beside, place)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{place}: {source}: {error.strerror}", remedy="check the file's name") from error
    picture = _opened(content, source, place)
    shown = min(width or picture.width, MAX_WIDTH, picture.width)
    if picture.width > 2 * shown:
        height = max(1, round(picture.height * 2 * shown / picture.width))
        picture = picture.resize((2 * shown, height), Image.Resampling.LANCZOS)
    encoded, media_type = _encoded(picture)
    content_id = f"{sha256(encoded).hexdigest()[:20]}@images.invalid"
    height = max(1, round(picture.height * shown / picture.width))
    return Picture(f"cid:{content_id}", shown, height), InlineImage(content_id, media_type, encoded)


def _checked_path(source: str, root: Path, beside: Path, place: str) -> Path:
    if "\0" in source or source.lower().startswith(("file:", "data:", "//")):
        raise SourceError(
            f"{place}: an image cannot come from '{source[:60]}'", remedy="put it beside the issue"
        )
    path = (beside / unquote(source)).resolve()
    if not path.is_relative_to(root.resolve()):
        raise SourceError(f"{place}: '{source}' lies outside {root}", remedy="copy the image there")
    if not path.is_file():
        raise SourceError(f"{place}: there is no image '{source}'", remedy="check the file's name")
    if path.suffix.lower() in (".svg", ".svgz"):
        raise SourceError(f"{place}: mail clients do not show SVG ('{source}')", remedy="export it as PNG")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise SourceError(
            f"{place}: '{source}' is larger than {MAX_FILE_BYTES // 1_000_000} MB", remedy="make it smaller"
        )
    return path


def _opened(content: bytes, source: str, place: str) -> Image.Image:
    # Loaded for issues that hold images of their own.
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "GIF", "WEBP"))
            if picture.width * picture.height > MAX_PIXELS:
                raise SourceError(
                    f"{place}: '{source}' has more than {MAX_PIXELS // 1_000_000} million pixels",
                    remedy="make it smaller",
                )
            picture.load()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise SourceError(
            f"{place}: '{source}' has more than {MAX_PIXELS // 1_000_000} million pixels",
            remedy="make it smaller",
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise SourceError(
            f"{place}: '{source}' cannot be read as PNG, JPEG, GIF or WebP", remedy="save it anew"
        ) from error
    return ImageOps.exif_transpose(picture)


def _encoded(picture: Image.Image) -> tuple[bytes, str]:
    out = io.BytesIO()
    if picture.mode in ("P", "LA", "RGBA", "PA", "1") or "transparency" in picture.info:
        picture.convert("RGBA").save(out, "PNG", optimize=True)
        return out.getvalue(), "image/png"
    picture.convert("RGB").save(out, "JPEG", quality=_JPEG_QUALITY, optimize=True, progressive=True)
    return out.getvalue(), "image/jpeg"
