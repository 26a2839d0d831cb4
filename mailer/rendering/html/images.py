"""Check local images and convert them to what email clients show."""

from __future__ import annotations

import io
import warnings
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from msgspec import Struct

from mailer.errors import SourceError
from mailer.rendering.edition import InlineImage
from mailer.rendering.html.drawings import parse_drawing

if TYPE_CHECKING:
    from PIL import Image

MAX_WIDTH: Final = 536
"""The text column in CSS pixels: 600 less the padding on both sides."""
MAX_FILE_BYTES: Final = 20_000_000
MAX_PIXELS: Final = 50_000_000
_JPEG_QUALITY: Final = 82


class Picture(Struct, frozen=True):
    """The address of an `<img>` and its size in CSS pixels."""

    src: str
    width: int | None
    """None for a web image without a given width, which keeps its own."""
    height: int | None


def prepared(
    source: str, root: Path, beside: Path, width: int | None, place: str
) -> tuple[Picture, InlineImage]:
    """Return the image at `source` (relative to `beside`, inside `root`) encoded for email.

    It is scaled to at most twice the width at which it is shown, rotated according to EXIF, converted to
    sRGB, and stripped of metadata. Photographs become JPEG; SVG, drawings and transparent images PNG; and
    animations GIF. Raises `SourceError` at `place`.
    """
    from PIL import Image

    path = _checked_path(source, root, beside, place)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{place}: {source}: {error.strerror}", remedy="check the file's name") from error
    if path.suffix.lower() in (".svg", ".svgz"):
        content, width = _drawn(content, width, f"{place}: '{source}'")
    picture = _opened(content, source, place)
    shown = min(width or picture.width, MAX_WIDTH, picture.width)
    largest = (2 * shown, max(1, round(picture.height * 2 * shown / picture.width)))
    if getattr(picture, "n_frames", 1) > 1:
        encoded, media_type = _animation(picture, content, largest, f"{place}: '{source}'"), "image/gif"
    else:
        was_photograph = picture.format == "JPEG"
        picture = _converted(picture)
        if picture.width > largest[0]:
            picture = picture.resize(largest, Image.Resampling.LANCZOS)
        encoded, media_type = _encoded(picture, photograph=was_photograph)
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
        raise SourceError(f"{place}: '{source}' is outside {root}", remedy="copy the image there")
    if not path.is_file():
        raise SourceError(f"{place}: there is no image '{source}'", remedy="check the file's name")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise SourceError(
            f"{place}: '{source}' is larger than {MAX_FILE_BYTES // 1_000_000} MB", remedy="make it smaller"
        )
    return path


def _drawn(content: bytes, width: int | None, name: str) -> tuple[bytes, int]:
    """Return an SVG as PNG, twice as wide as it is shown, and the width at which it is shown."""
    drawing = parse_drawing(content, name)
    shown = min(width or max(1, round(drawing.width)), MAX_WIDTH)
    if (2 * shown) ** 2 * drawing.height / drawing.width > MAX_PIXELS:
        raise SourceError(
            f"{name} is too tall for its width", remedy="crop it, or split it into several images"
        )
    return drawing.png(2 * shown), shown


def _opened(content: bytes, source: str, place: str) -> Image.Image:
    # Imported here because many issues have no local images.
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "GIF", "WEBP", "AVIF"))
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
            f"{place}: '{source}' cannot be read as PNG, JPEG, GIF, WebP or AVIF",
            remedy="save it again in one of these formats",
        ) from error
    if getattr(picture, "n_frames", 1) == 1:
        ImageOps.exif_transpose(picture, in_place=True)
    return picture


def _converted(picture: Image.Image) -> Image.Image:
    """Return a picture in 8-bit sRGB, with or without transparency."""
    if picture.mode.startswith(("I", "F")):
        picture = _eight_bits(picture)
    transparent = picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info
    profile = picture.info.get("icc_profile")
    alpha = picture.convert("RGBA").getchannel("A") if transparent else None
    if picture.mode not in ("RGB", "CMYK", "LAB"):
        picture = picture.convert("RGB")
    if profile:
        picture = _in_srgb(picture, profile)
    picture = picture.convert("RGB")
    if alpha is not None:
        picture.putalpha(alpha)
    return picture


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Return a deep grey picture in 8 bits, scaled by its range, because its mode does not tell the depth."""
    lowest, highest = (float(value) for value in picture.getextrema())  # type: ignore[arg-type]
    scale = 1.0 if lowest >= 0 and highest <= 255 and picture.mode == "I" else 255 / 65535
    if picture.mode == "F":
        scale = 255 / highest if highest > 0 else 1.0
    return picture.convert("F").point(lambda value: value * scale + 0.5).convert("L")


def _in_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Return a picture converted to sRGB, or unchanged if its colour profile is damaged."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        return picture
    return converted if converted is not None else picture


def _animation(picture: Image.Image, content: bytes, largest: tuple[int, int], name: str) -> bytes:
    """Return an animation as GIF; a GIF that is not too large stays as it is."""
    from PIL import Image, ImageSequence

    frames = int(getattr(picture, "n_frames", 1))
    if picture.width * picture.height * frames > MAX_PIXELS:
        raise SourceError(
            f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels in all its frames",
            remedy="make it smaller or shorter",
        )
    if picture.format == "GIF" and picture.width <= largest[0]:
        return content
    pictures, milliseconds = [], []
    for frame in ImageSequence.Iterator(picture):
        drawn = _converted(frame.copy())
        pictures.append(
            drawn.resize(largest, Image.Resampling.LANCZOS) if drawn.width > largest[0] else drawn
        )
        milliseconds.append(int(frame.info.get("duration", 100)) or 100)
    out = io.BytesIO()
    pictures[0].save(
        out, "GIF", save_all=True, append_images=pictures[1:], duration=milliseconds,
        loop=int(picture.info.get("loop", 0)), disposal=2,
    )  # fmt: skip
    return out.getvalue()


def _encoded(picture: Image.Image, *, photograph: bool) -> tuple[bytes, str]:
    """Return a picture as PNG if it is transparent or a drawing in few colours, else as JPEG."""
    out = io.BytesIO()
    few_colours = not photograph and picture.getcolors(_DRAWING_COLOURS) is not None
    if picture.mode == "RGBA" or few_colours:
        picture.save(out, "PNG", optimize=True)
        return out.getvalue(), "image/png"
    picture.save(out, "JPEG", quality=_JPEG_QUALITY, optimize=True, progressive=True)
    return out.getvalue(), "image/jpeg"


# A photograph has more; JPEG would smear the edges of a drawing.
_DRAWING_COLOURS: Final = 256
