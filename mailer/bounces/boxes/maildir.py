"""A Maildir: mails wait in `new/`, and go to `cur/` with the flag S once they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mailer.bounces.boxes.fetch import Incoming
from mailer.bounces.record import MAX_RAW_OCTETS
from mailer.errors import ConfigError, StorageError


class Maildir:
    """A folder with `new/` and `cur/` (https://cr.yp.to/proto/maildir.html). Nothing is deleted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def source(self) -> str:
        """`maildir:` and the folder."""
        return f"maildir:{self.folder}"

    def mails(self) -> Iterator[Incoming]:
        """Yield the mails in `new/`, in the order of their names, which begin with the time.

        Raises `ConfigError` when this is no Maildir. A mail that vanishes meanwhile was another's.
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
        """Move a mail to `cur/` as seen."""
        current = self.folder / "cur"
        try:
            current.mkdir(mode=0o700, exist_ok=True)
            base = mail.key.partition(":2,")[0]
            (self.folder / "new" / mail.key).rename(current / f"{base}:2,S")
        except FileNotFoundError:
            # Another fetch has marked it; it is stored either way.
            return
        except OSError as error:
            raise StorageError(f"{self.folder}: {error.strerror}", remedy="check permissions") from error
