"""What is made once and kept for the next start: a folder of the user's, and compiled templates in it.

Whatever cannot be read or written there is made anew.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import jinja2
from jinja2.bccache import Bucket, BytecodeCache


def cache_folder() -> Path | None:
    """Return the folder of the XDG base directory specification for what can be made anew.

    None where the folder is somebody else's: what they put there is not run.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    above = Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~/.cache"))
    folder = above / "mailer"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid():
            return folder
    return None


def put(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(descriptor, "wb") as written:
            written.write(content)
        os.replace(name, file)


class CompiledTemplates(BytecodeCache):
    """Templates as Jinja compiled them for one language, whose filters are part of what it compiles."""

    def __init__(self, language: str) -> None:
        folder = cache_folder()
        self._folder = folder and folder / f"templates-{jinja2.__version__}" / language

    def load_bytecode(self, bucket: Bucket) -> None:
        """Fill the bucket from its file; part of `jinja2.BytecodeCache`."""
        if self._folder is not None:
            with contextlib.suppress(OSError, ValueError), (self._folder / bucket.key).open("rb") as file:
                bucket.load_bytecode(file)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Write the bucket to its file; part of `jinja2.BytecodeCache`."""
        if self._folder is not None:
            put(self._folder / bucket.key, bucket.bytecode_to_string())
