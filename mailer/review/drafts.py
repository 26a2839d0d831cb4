"""Read and save the files of issues, without overwriting what someone else has saved meanwhile."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from mailer.errors import RefusedError, SourceError
from mailer.rendering.source.new import slug

MAX_IMAGE_OCTETS: Final = 10 * 1024 * 1024
MAX_DRAFT_OCTETS: Final = 1024 * 1024
_IMAGES: Final = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "WEBP": ".webp"}


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of an issue's file, and the digest by which a later save recognises it."""

    path: Path
    text: str
    digest: str


class ChangedError(RefusedError):
    """The file has changed since it was read; `theirs` is what it contains now."""

    def __init__(self, theirs: Draft) -> None:
        super().__init__(
            f"{theirs.path.name} was changed on disk meanwhile; nothing was saved",
            remedy="compare the two versions, and keep one",
        )
        self.theirs = theirs


def read_draft(path: Path) -> Draft:
    """Return the text in an issue's file; raise `SourceError` if it cannot be read."""
    try:
        raw = path.read_bytes()
        return Draft(path, raw.decode("utf-8-sig").replace("\r\n", "\n"), _digest(raw))
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}", remedy="check the path") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8", remedy="save the file as UTF-8") from error


def save_draft(path: Path, text: str, *, known: str) -> Draft:
    """Replace the text of an issue's file and return the new draft.

    `known` is the digest of the draft that was edited. Raises `ChangedError` if the file has another
    content by now.
    """
    raw = text.replace("\r\n", "\n").encode("utf-8", "replace")
    if len(raw) > MAX_DRAFT_OCTETS:
        raise RefusedError(f"the issue is larger than {MAX_DRAFT_OCTETS:,} bytes", remedy="split it")
    now = read_draft(path)
    if now.digest != known:
        raise ChangedError(now)
    _replace(path, raw)
    return Draft(path, text, _digest(raw))


def difference(before: str, after: str) -> list[str]:
    """Return the lines of a unified diff, without file names."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2)
    return list(lines)[2:]


def save_image(folder: Path, name: str, content: bytes) -> Path:
    """Save an uploaded image in `folder` under a name made from `name`; return its path.

    Nothing is overwritten. Raises `RefusedError` for a file that is too large or is no image.
    """
    # Imported here because few requests need it.
    from PIL import Image, UnidentifiedImageError

    if len(content) > MAX_IMAGE_OCTETS:
        raise RefusedError(f"the image is larger than {MAX_IMAGE_OCTETS:,} bytes", remedy="scale it down")
    try:
        with Image.open(BytesIO(content), formats=list(_IMAGES)) as picture:
            suffix = _IMAGES[str(picture.format)]
            picture.verify()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise RefusedError("this file is not a JPEG, PNG, GIF or WebP image") from error
    folder.mkdir(exist_ok=True)
    stem = slug(re.split(r"[/\\]", name)[-1].rpartition(".")[0] or "image")
    for number in range(1, 1000):
        path = folder / f"{stem}{f'-{number}' if number > 1 else ''}{suffix}"
        try:
            with path.open("xb") as file:
                file.write(content)
        except FileExistsError:
            continue
        return path
    raise RefusedError(f"there are too many images called {stem}", remedy="rename the file")


def _replace(path: Path, raw: bytes) -> None:
    """Write a file beside the old one and put it in its place, so that no reader sees half of it."""
    written: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            written = Path(file.name)
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        written.chmod(path.stat().st_mode & 0o777)
        written.replace(path)
    except OSError as error:
        if written is not None:
            written.unlink(missing_ok=True)
        raise SourceError(f"{path}: {error.strerror or error}", remedy="check the permissions") from error


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
