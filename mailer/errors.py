"""The errors that can end a command, each with an exit code and a remedy."""

from __future__ import annotations

import errno
import os
import socket
import sys
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit codes of the process; documented in docs/reference/exit-codes.md."""

    DONE = 0
    FAILURE = 1
    USAGE = 2
    FINDINGS = 3
    PARTIAL = 4
    REFUSED = 5
    CONFIGURATION = 6
    LOCKED = 7
    INTERRUPTED = 130


class MailerError(Exception):
    """A failure that a person can act on.

    `message` says what is wrong and where (`issues/007.md:3: 'title' is missing`);
    `remedy` says what to do next: one command, or a clause that begins with a verb. It follows `next:`, so it
    has no label of its own: `list them with: mailer status`, not `see: mailer status`.
    """

    exit_code: ExitCode = ExitCode.FAILURE

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message if self.remedy is None else f"{self.message}; {self.remedy}"


class AddressError(MailerError, ValueError):
    """An address, or a display name, that must not be used in a message."""


class ConfigError(MailerError):
    """config.toml or the environment is wrong, or a relay or DNS rejects their settings."""

    exit_code = ExitCode.CONFIGURATION


class ListenError(ConfigError):
    """A server cannot listen on an address; `error` is the reason that the system gives."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        reason, remedy = _LISTENING.get(error.errno or 0, ("", ""))
        if isinstance(error, socket.gaierror):
            reason, remedy = "no such host name", "use an address of this machine, such as 127.0.0.1"
        # asyncio repeats the address in its text; the system's own words do not.
        reason = reason or os.strerror(error.errno or errno.EIO).lower()
        super().__init__(
            f"cannot listen on {host}:{port}: {reason}", remedy=remedy or "choose another address or port"
        )


_LISTENING = {
    errno.EADDRINUSE: ("the port is in use", "stop the other program, or choose another port with --port"),
    errno.EADDRNOTAVAIL: (
        "this machine has no such address",
        "use an address of this machine, such as 127.0.0.1",
    ),
    errno.EACCES: (
        "not allowed",
        "ports below 1024 need root: choose a port above, and let nginx or Caddy forward to it",
    ),
}


class SourceError(MailerError):
    """The issue, a template or another file that the operator wrote is wrong.

    The message begins with `file:line:` where these are known.
    """


class RecipientError(MailerError):
    """One subscriber's data cannot fill in the issue; other deliveries are not affected.

    `field` names the value at fault as the template does (`subscriber.city`).
    """

    def __init__(self, message: str, *, field: str, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.field = field


class SegmentError(MailerError, ValueError):
    """A segment that cannot be understood; the message points at the column."""

    exit_code = ExitCode.USAGE


class FindingsError(MailerError):
    """Lint found errors."""

    exit_code = ExitCode.FINDINGS


class RefusedError(MailerError):
    """A safety check refused: nothing was done, and the remedy says how to proceed."""

    exit_code = ExitCode.REFUSED


class LockedError(MailerError):
    """Another run holds the lock."""

    exit_code = ExitCode.LOCKED


class TakenOverError(LockedError):
    """Another process has ended this run and taken over its deliveries."""


class StorageError(MailerError):
    """The database or the disk failed; everything committed so far is kept."""


class UnavailableError(StorageError):
    """The database server cannot be used at present; the same step may work later."""


class SchemaError(MailerError):
    """The database was made by another version of the program."""

    exit_code = ExitCode.CONFIGURATION


class TokenError(MailerError, ValueError):
    """A signed string is not ours, is damaged, or was made for another purpose."""


class RelayError(MailerError):
    """A relay could not be used; no delivery was touched."""

    exit_code = ExitCode.CONFIGURATION


class MailboxError(MailerError):
    """A mailbox could not be read; everything stored so far is kept."""

    exit_code = ExitCode.CONFIGURATION


class RelayDownError(RelayError):
    """A relay cannot be reached or is busy; another relay, or the same one later, may work."""


def install_command(extra: str) -> str:
    """Return the command that installs an optional part of mailer beside this one."""
    # pipx keeps each program in an environment of its own, without a pip on the PATH.
    pip = "pipx runpip mailer" if "pipx" in Path(sys.prefix).parts else "pip"
    return f"{pip} install 'mailer[{extra}]'"
