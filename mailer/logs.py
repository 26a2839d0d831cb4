"""The log of long-running commands: lines of text, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, Literal

RUN: Final[ContextVar[int | None]] = ContextVar("run", default=None)
"""The id of the run that this task belongs to, as in `mailer workers`."""
REQUEST: Final[ContextVar[str | None]] = ContextVar("request", default=None)
"""The id of the request that this task answers, as in its X-Request-ID."""

# A range up to U+FFFF would take milliseconds to compile.
_ADDRESS: Final = re.compile(r"[^\s@<>()\"',;:=]{1,64}@(?=[A-Za-z0-9]|[^\x00-\x7f])")
_TEXT: Final = "%(asctime)s %(levelname)s %(message)s"


def set_up(form: Literal["text", "json"], *, addresses: bool = False) -> None:
    """Write the log to standard error: warnings and errors, and as JSON the program's notes too.

    Without `addresses`, the part of email addresses before the @ is left out, in tracebacks too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(addresses=addresses) if form == "json" else _Lines(addresses=addresses))
    # Text is the default, and leaves the handlers of an embedding program in place.
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=form == "json")
    logging.getLogger("mailer").setLevel(logging.INFO if form == "json" else logging.NOTSET)


def without_addresses(text: str) -> str:
    """Return a text with `…@example.org` in place of each email address."""
    return _ADDRESS.sub("…@", text)


class _Lines(logging.Formatter):
    def __init__(self, *, addresses: bool) -> None:
        super().__init__(_TEXT)
        self._addresses = addresses

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return line if self._addresses else without_addresses(line)


class JsonLines(logging.Formatter):
    """Formats each record as one JSON object.

    Its keys: `at` (UTC), `level`, `logger`, `message`; and where they apply, `run`, `request`, `error` (its
    class) and `traceback`.
    """

    def __init__(self, *, addresses: bool) -> None:
        super().__init__()
        self._addresses = addresses

    def format(self, record: logging.LogRecord) -> str:
        """Implement `logging.Formatter`."""
        fields: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._shown(record.getMessage()),
        }
        if (run := RUN.get()) is not None:
            fields["run"] = run
        if (request := REQUEST.get()) is not None:
            fields["request"] = request
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = record.exc_info[0].__name__
            fields["traceback"] = self._shown(self.formatException(record.exc_info))
        return json.dumps(fields, ensure_ascii=False)

    def _shown(self, text: str) -> str:
        return text if self._addresses else without_addresses(text)
