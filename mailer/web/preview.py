"""An issue in the browser while it is being written: every form a reader may see it in, and lint beside it.

The page asks once a second whether a file has changed. The mail stands in a frame without rights, as in
the outbox: an issue may hold HTML from anywhere.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import urlencode

import watchfiles
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

from mailer.config import Brand
from mailer.delivery.viewing import Preview
from mailer.errors import MailerError
from mailer.web.look import Look
from mailer.web.shield import PAGE_POLICY, LocalOnly, Shield

CLIPPED_OCTETS: Final = 102_000
"""Gmail shows no more of a mail's HTML than this."""
WIDTHS: Final = {"desktop": 700, "phone": 375}
VIEWS: Final = {
    "desktop": "Desktop", "phone": "Phone", "text": "Text", "source": "Source", "headers": "Headers"
}  # fmt: skip
_PAGE_POLICY: Final = f"{PAGE_POLICY}; frame-src 'self'; script-src 'self'; connect-src 'self'"
_MAIL_POLICY: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; img-src "
)
_SCHEME: Final = re.compile(r"\(\s*prefers-color-scheme\s*:\s*(dark|light)\s*\)")
_SCRIPT: Final = Path(__file__).parent / "pages" / "preview.js"


@dataclass(frozen=True, slots=True)
class Choice:
    """What of the issue is looked at."""

    view: str = "desktop"
    dark: bool = False
    images: bool = True

    def query(self, **changed: str | bool) -> str:
        """Return the query string of this choice, with something changed."""
        wanted = {"view": self.view, "dark": self.dark, "images": self.images, **changed}
        return "?" + urlencode(
            {"view": wanted["view"], "dark": int(wanted["dark"]), "images": int(wanted["images"])}
        )


class Live:
    """An issue that is rendered anew once a file under the watched paths has changed."""

    def __init__(self, make: Callable[[], Preview], paths: Sequence[Path]) -> None:
        self._make = make
        self._paths = [path for path in paths if path.exists()]
        self._lock = threading.Lock()
        self._made: tuple[int, Preview | MailerError] | None = None
        self._ended = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="watching", daemon=True)
        self.version = 1
        """Differs once something has changed."""

    def __enter__(self) -> Live:
        self._watching.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watching.join()

    def now(self) -> tuple[int, Preview | MailerError]:
        """Return the version and what it looks like, or why it cannot be rendered."""
        with self._lock:
            version = self.version
            if self._made is None or self._made[0] != version:
                made: Preview | MailerError
                try:
                    made = self._make()
                except MailerError as error:
                    made = error
                self._made = version, made
            return self._made

    def _watch(self) -> None:
        for _ in watchfiles.watch(
            *self._paths,
            stop_event=self._ended,
            debounce=200,
            step=50,
            rust_timeout=500,
            raise_interrupt=False,
        ):
            self.version += 1


def create_preview_app(live: Live, *, brand: Brand) -> ASGIApp:
    """Return the application that shows an issue; it only reads."""
    pages = _Pages(live, Look(brand, name="Preview", language="en"))
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for path, answer in (
        ("/", pages.index),
        ("/mail", pages.mail),
        ("/message.eml", pages.message),
        ("/version", pages.version),
        ("/style.css", pages.look.style),
        ("/preview.js", pages.script),
    ):
        app.add_api_route(path, answer, methods=["GET", "HEAD"])
    return Shield(LocalOnly(app, "The preview"), policy=_PAGE_POLICY, private=("/",))


def shown(html: str, *, dark: bool) -> str:
    """Return the mail as a client in dark or light mode shows it, whatever this browser prefers."""
    wanted = "dark" if dark else "light"
    html = _SCHEME.sub(lambda found: "(min-width: 0)" if found[1] == wanted else "(max-width: 0)", html)
    return html.replace("color-scheme: light dark;", f"color-scheme: {wanted};", 1)


class _Pages:
    def __init__(self, live: Live, look: Look) -> None:
        self._live = live
        self.look = look

    def index(self, view: str = "desktop", dark: bool = False, images: bool = True) -> Response:
        """Show the issue in one of its forms, and what lint says."""
        version, made = self._live.now()
        choice = Choice(view if view in VIEWS else "desktop", dark, images)
        if isinstance(made, MailerError):
            return self.look.page(
                "preview_broken.html", title="Cannot be rendered", version=version, error=made, choice=choice
            )
        report = made.report
        return self.look.page(
            "preview.html",
            title=made.edition.title,
            version=version,
            choice=choice,
            views=VIEWS,
            width=WIDTHS.get(choice.view),
            preview=made,
            report=report,
            share=min(100, round(100 * report.html_bytes / CLIPPED_OCTETS)),
            clipped=report.html_bytes > CLIPPED_OCTETS,
            limit=CLIPPED_OCTETS,
        )

    def mail(self, dark: bool = False, images: bool = True) -> Response:
        """Return the HTML part for the frame."""
        _, made = self._live.now()
        html = "" if isinstance(made, MailerError) else shown(made.viewed.html, dark=dark)
        sources = "data: https:" if images else "'none'"
        return HTMLResponse(html, headers={"content-security-policy": _MAIL_POLICY + sources})

    def message(self) -> Response:
        """Return the whole message as it would be transmitted."""
        _, made = self._live.now()
        if isinstance(made, MailerError):
            return PlainTextResponse(f"{made.message}\n", 409)
        return Response(made.viewed.message, media_type="message/rfc822")

    def version(self, request: Request) -> Response:
        """Return the number that differs once something has changed."""
        return JSONResponse({"version": self._live.version})

    def script(self) -> Response:
        """Return the page's own script."""
        return Response(_SCRIPT.read_bytes(), media_type="text/javascript")
