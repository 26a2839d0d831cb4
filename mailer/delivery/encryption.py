"""Backups encrypted with age (https://age-encryption.org), for one or several recipients."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mailer.errors import ConfigError, StorageError, install_command

if TYPE_CHECKING:
    from pyrage import ssh, x25519

SUFFIX: Final = ".age"


def check(recipients: Sequence[str]) -> None:
    """Raise `ConfigError` if a backup cannot be encrypted for one of these."""
    for text in recipients:
        _recipient(text)


def encrypt(plain: Path, target: Path, recipients: Sequence[str]) -> None:
    """Write a file encrypted for its recipients, readable only by its owner."""
    import pyrage

    unfinished = target.with_name(f"{target.name}.part")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    try:
        pyrage.encrypt_file(str(plain), str(unfinished), [_recipient(text) for text in recipients])
        unfinished.rename(target)
    except (OSError, pyrage.EncryptError) as error:
        unfinished.unlink(missing_ok=True)
        raise StorageError(f"{target}: {error}", remedy="check the folder and the disk") from error


@contextmanager
def opened(file: Path, identity: Path | None) -> Iterator[Path]:
    """Give a file as it is; if its name ends in `.age`, decrypted in a temporary folder.

    `identity` is a file with secret keys, as `age-keygen` or `ssh-keygen` writes them.
    """
    if file.suffix != SUFFIX:
        yield file
        return
    if identity is None:
        raise ConfigError(
            f"{file} is encrypted", remedy="name the file with your secret key with --identity FILE"
        )
    _need_pyrage()
    import pyrage

    keys = _identities(identity)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "decrypted.db")
        try:
            pyrage.decrypt_file(str(file), str(plain), keys)
        except (OSError, pyrage.DecryptError) as error:
            raise StorageError(
                f"{file}: cannot be decrypted ({error})",
                remedy="use the secret key of a recipient, or another backup",
            ) from error
        yield plain


def _recipient(text: str) -> x25519.Recipient | ssh.Recipient:
    _need_pyrage()
    import pyrage

    try:
        if text.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise ConfigError(
            f"'{text[:70]}' is not a recipient of age",
            remedy="name a public key: age1…, as age-keygen prints it, or ssh-ed25519 …",
        ) from error


def _identities(file: Path) -> list[x25519.Identity | ssh.Identity]:
    import pyrage

    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}", remedy="check --identity") from error
    try:
        if content.startswith(b"-----BEGIN"):
            return [pyrage.ssh.Identity.from_buffer(content)]
        lines = content.decode().splitlines()
        return [pyrage.x25519.Identity.from_str(line) for line in lines if line.startswith("AGE-SECRET-KEY-")]
    except (pyrage.IdentityError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: no secret key of age or SSH", remedy="check --identity") from error


def _need_pyrage() -> None:
    try:
        import pyrage
    except ImportError as error:
        raise ConfigError(
            "encrypted backups need a package that is not installed (pyrage)",
            remedy=f"install it with: {install_command('encryption')}",
        ) from error
    assert pyrage
