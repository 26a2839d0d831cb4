"""Show messages in a Chromium installed on this machine, to photograph and measure them.

The browser is controlled through a pipe (DevTools protocol): no port is opened and nothing is installed.
It gets the message as the response to its only request, under a policy that permits no scripts.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO, Any, Final

from mailer.errors import ConfigError, MailerError

NAMES: Final = (
    # It costs half as much as the browser with windows.
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
MAX_HEIGHT: Final = 16_000
"""The maximum height of a screenshot in pixels; browsers cannot draw more."""
_URL: Final = "http://mail.invalid/"
_SECONDS: Final = 60
_NO_NETWORK: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_READ_OCTETS: Final = 1 << 20
# Chromium expects its pipe at these two descriptors, so our own must not be there.
_COMMANDS, _ANSWERS, _FREE = 3, 4, 10
# Without JavaScript of its own, the document is measured by ours: text and boxes beyond the screen, except in
# scroll areas. An element counts only if nothing inside it does.
_MEASURE: Final = """(limit => {
    const found = [], seen = new Set();
    const scrolls = e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
    const held = e => { for (; e; e = e.parentElement) if (scrolls(e) && e !== document.body) return true; };
    const note = (element, text, right) => {
        if (right <= innerWidth + 1 || seen.has(element) || held(element.parentElement)) return;
        for (let above = element; above; above = above.parentElement) seen.add(above);
        found.push({tag: element.localName, text: text.slice(0, 200), needs: Math.ceil(right)});
    };
    const nodes = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = nodes.nextNode(); node; node = nodes.nextNode()) {
        const range = document.createRange();
        range.selectNodeContents(node);
        const rights = [...range.getClientRects()].filter(one => one.width).map(one => one.right);
        if (node.data.trim() && !held(node.parentElement))
            note(node.parentElement, node.data.trim(), Math.max(0, ...rights));
    }
    for (const element of [...document.body.querySelectorAll('*')].reverse()) {
        const box = element.getBoundingClientRect();
        if (box.width) note(element, element.getAttribute('alt') || element.textContent.trim(), box.right);
    }
    return found.slice(0, limit);
})"""
_MAX_EXCESSES: Final = 20


def find_chromium() -> str:
    """Return the path of a Chromium or Chrome; raise `ConfigError` if there is none."""
    if found := installed():
        return found
    raise ConfigError(
        "there is no Chromium on this machine",
        remedy="install chromium or Google Chrome",
    )


def installed() -> str | None:
    """Return the path of a Chromium or Chrome, or None if there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass(frozen=True, slots=True)
class Excess:
    """An element that reaches beyond the screen."""

    tag: str
    text: str
    """Its first words; may be empty."""
    needs: int
    """The width in pixels of the narrowest screen that shows all of it."""


class Chromium:
    """A headless browser with one page, controlled through two descriptors."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._policy = ""
        self._html = b""
        self._loaded = False

    def photograph(self, html: str, *, policy: str, width: int) -> bytes:
        """Return a PNG of the whole message, `width` pixels wide and at most `MAX_HEIGHT` high.

        `policy` is the Content-Security-Policy of the document. Raises `MailerError` if the browser
        does not answer in time.
        """
        self._show(html, policy, width)
        height = self._ask("Page.getLayoutMetrics")["cssContentSize"]["height"]
        area = {"x": 0, "y": 0, "width": width, "height": min(height, MAX_HEIGHT), "scale": 1}
        picture = self._ask(
            "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": area}
        )
        return base64.b64decode(picture["data"])

    def measure(self, html: str, *, width: int) -> list[Excess]:
        """Return the parts that overflow a screen of `width` pixels; nothing is loaded from the network."""
        self._show(html, _NO_NETWORK, width)
        expression = f"{_MEASURE}({_MAX_EXCESSES})"
        said = self._ask("Runtime.evaluate", {"expression": expression, "returnByValue": True})
        return [Excess(one["tag"], one["text"], one["needs"]) for one in said["result"].get("value", ())]

    def _show(self, html: str, policy: str, width: int) -> None:
        self._html, self._policy, self._loaded = html.encode(), policy, False
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", size)
        self._ask("Page.navigate", {"url": _URL})
        deadline = time.monotonic() + _SECONDS
        while not self._loaded:
            self._notice(self._next(deadline))

    def _open(self) -> None:
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        self._ask("Page.enable")
        self._ask("Emulation.setScriptExecutionDisabled", {"value": True})
        self._ask("Fetch.enable", {"patterns": [{"urlPattern": f"{_URL}*"}]})

    def _ask(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        number, deadline = self._tell(method, parameters), time.monotonic() + _SECONDS
        while True:
            said = self._next(deadline)
            if said.get("id") == number:
                if "error" in said:
                    raise MailerError(f"Chromium: {method}: {said['error'].get('message')}")
                result: dict[str, Any] = said["result"]
                return result
            self._notice(said)

    def _tell(self, method: str, parameters: dict[str, Any] | None = None) -> int:
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": parameters or {}}
        if self._session is not None:
            command["sessionId"] = self._session
        waiting = memoryview(json.dumps(command).encode() + b"\0")
        while waiting:
            waiting = waiting[os.write(self._commands, waiting) :]
        return self._number

    def _notice(self, said: dict[str, Any]) -> None:
        if said.get("method") == "Page.loadEventFired":
            self._loaded = True
        elif said.get("method") == "Fetch.requestPaused":
            asked = said["params"]
            answer = {
                "requestId": asked["requestId"],
                "responseCode": 200 if asked["request"]["url"] == _URL else 404,
                "responseHeaders": [
                    {"name": "Content-Type", "value": "text/html; charset=utf-8"},
                    {"name": "Content-Security-Policy", "value": self._policy},
                    {"name": "Referrer-Policy", "value": "no-referrer"},
                ],
                "body": base64.b64encode(self._html).decode("ascii"),
            }
            self._tell("Fetch.fulfillRequest", answer)

    def _next(self, deadline: float) -> dict[str, Any]:
        """Return the browser's next message."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise MailerError(
                    f"Chromium did not show the message within {_SECONDS} seconds",
                    remedy="check whether its images can be loaded with: mailer lint --links",
                )
            octets = os.read(self._answers, _READ_OCTETS)
            if not octets:
                raise BrokenPipeError
            self._buffer += octets
        message, _, self._buffer = self._buffer.partition(b"\0")
        said: dict[str, Any] = json.loads(message)
        return said


@contextlib.contextmanager
def started(program: str) -> Iterator[Chromium]:
    """Start Chromium, yield its controller, and end it with the block.

    Raises `MailerError` with its last line of output if it ends earlier.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        words: IO[bytes] = stack.enter_context((Path(folder) / "words").open("w+b"))
        (commands, tell), (hear, answers) = _pipe(stack), _pipe(stack)
        stack.callback(_end, _spawn(program, folder, words, commands, answers))
        commands.close()
        answers.close()
        made = Chromium(tell.fileno(), hear.fileno())
        try:
            made._open()
            yield made
        except BrokenPipeError as error:
            words.seek(0)
            last = [line for line in words.read().decode("utf-8", "replace").splitlines() if line.strip()]
            raise MailerError(
                f"{program} ended unexpectedly: {(last or ['no output'])[-1][:300]}",
                remedy="check whether it starts on its own with --headless",
            ) from error


class Ruler:
    """Measures messages in a Chromium that is started when it is first needed.

    Where there is none, or once it has failed, every message fits: lint has measured it without a browser.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._stack = contextlib.ExitStack()
        self._browser: Chromium | None = None
        self._is_usable = installed() is not None

    def __enter__(self) -> Ruler:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, html: str, width: int) -> list[Excess]:
        """Return the parts that overflow a screen of `width` pixels."""
        if not self._is_usable:
            return []
        try:
            if self._browser is None:
                self._browser = self._stack.enter_context(started(find_chromium()))
            return self._browser.measure(html, width=width)
        except (MailerError, BrokenPipeError) as error:
            self._is_usable = False
            self._say(f"not measuring with Chromium: {error}")
            return []


def _pipe(stack: contextlib.ExitStack) -> tuple[FileIO, FileIO]:
    """Return the two ends of a pipe, above the descriptors that the browser needs."""
    ends = []
    for low, mode in zip(os.pipe(), ("rb", "wb"), strict=True):
        high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _FREE)
        os.close(low)
        ends.append(stack.enter_context(FileIO(high, mode)))
    return ends[0], ends[1]


def _spawn(program: str, folder: str, words: IO[bytes], commands: FileIO, answers: FileIO) -> int:
    """Start the browser in a process group of its own and return its id."""
    options = [
        "--headless",
        "--remote-debugging-pipe",
        f"--user-data-dir={folder}/profile",
        "--hide-scrollbars",
        "--disable-gpu",
        "--disable-extensions",
        "--disable-background-networking",
        "--no-first-run",
        "--no-default-browser-check",
    ]
    if os.geteuid() == 0:
        # Chromium refuses to use its sandbox as root. It only shows the operator's own email.
        options.append("--no-sandbox")
    try:
        return os.posix_spawn(
            program,
            [program, *options, "about:blank"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, words.fileno(), 2),
                (os.POSIX_SPAWN_DUP2, commands.fileno(), _COMMANDS),
                (os.POSIX_SPAWN_DUP2, answers.fileno(), _ANSWERS),
            ],
            setpgroup=0,
        )
    except OSError as error:
        raise ConfigError(
            f"{program} cannot be started: {error.strerror}", remedy="reinstall Chromium"
        ) from error


def _end(process: int) -> None:
    """End the browser and all processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
