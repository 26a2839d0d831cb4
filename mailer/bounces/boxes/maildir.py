"""A Maildir: messages move from `new/` to `cur/`, with the flag S, once they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mailer.bounces.boxes.fetch import Incoming
from mailer.bounces.record import MAX_RAW_OCTETS
from mailer.errors import ConfigError, StorageError


class Maildir:
    """A folder with `new/` and `cur/` (https://cr.yp.to/proto/maildir.html). Messages are never deleted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def source(self) -> str:
        """`maildir:` and the folder."""
        return f"maildir:{self.folder}"

    def messages(self) -> Iterator[Incoming]:
        """Yield the messages in `new/`, sorted by name; names begin with the time of arrival.

        Skips messages that another process moves meanwhile. Raises `ConfigError` if this is not a Maildir.
        """
        new = self.folder / "new"
        try:
            names = sorted(path.name for path in new.iterdir() if not path.name.startswith("."))
        except OSError as error:
            raise ConfigError(
                f"{new}: {error.strerror}",
                remedy="check bounces.maildirs; the folder needs new/ and cur/",
            ) from error
        for name in names:
            try:
                if (new / name).is_file():
                    with (new / name).open("rb") as file:
                        raw = file.read(MAX_RAW_OCTETS)
                    yield Incoming(name, raw)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError(f"{new / name}: {error.strerror}", remedy="check permissions") from error

    def mark(self, mail: Incoming) -> None:
        """Move a message to `cur/` with the flag S."""
        current = self.folder / "cur"
        try:
            current.mkdir(mode=0o700, exist_ok=True)
            base = mail.key.partition(":2,")[0]
            (self.folder / "new" / mail.key).rename(current / f"{base}:2,S")
        except FileNotFoundError:
            # Another process has moved it.
            return
        except OSError as error:
            raise StorageError(f"{self.folder}: {error.strerror}", remedy="check permissions") from error
