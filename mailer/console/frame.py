"""The frame of every page: navigation, errors in plain words, dialogs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from markupsafe import Markup
from nicegui import Client, events, ui
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mailer.console.desk import Desk, Visit
from mailer.console.guard import VISITOR
from mailer.console.markup import note, show
from mailer.console.sessions import Visitor
from mailer.console.users import Role
from mailer.errors import MailerError, RefusedError, SegmentError, SourceError

_log = logging.getLogger(__name__)
Builder = Callable[[Visit, Request], Awaitable[None]]
Handler = Callable[[], Awaitable[None]]
_FAILED: Final = "Something went wrong here. The reason is in the output of mailer console."
_ICONS: Final = {
    "Home": "M3 11 12 4l9 7v9h-6v-6H9v6H3z",
    "Issues": "M4 5h16v14H4zM4 6l8 7 8-7",
    "Subscribers": "M9 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM2 21c0-4 3-7 7-7s7 3 7 7M17 4a4 4 0 0 1 0 7",
    "Bounces": "M9 14 4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
    "Deliverability": "M12 3l8 3v6c0 5-3.5 8-8 9-4.500-1-8-4-8-9V6zM8.500 12l2.500 2.500 4.500-5",
    "Settings": "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
    "Audit log": "M6 3h12v18H6zM9 8h6M9 12h6M9 16h3",
}
_PAGES: Final[tuple[tuple[str, str], ...]] = (
    ("/", "Home"),
    ("/issues", "Issues"),
    ("/subscribers", "Subscribers"),
    ("/bounces", "Bounces"),
    ("/deliverability", "Deliverability"),
    ("/settings", "Settings"),
    ("/audit", "Audit log"),
)


_STATUSES: Final = {RefusedError: 403, SourceError: 404, SegmentError: 400}
"""The HTTP status for each error; 500 for others."""


def add_page(desk: Desk, path: str, title: str, build: Builder, needed: Role = Role.READER) -> None:
    """Add a page; `build` fills it. Errors appear in the page, in plain words."""

    @ui.page(path, title=title, response_timeout=30)
    async def shown(request: Request) -> None:
        visitor: Visitor = request.scope[VISITOR]
        visit = Visit(visitor, request.headers.get("user-agent", ""))
        _navigation(desk, visit, request.url.path)
        try:
            if not visitor.role.may(needed):
                raise RefusedError(f"This page needs the role '{needed}'; yours is '{visitor.role}'")
            await build(visit, request)
        except MailerError as error:
            show(note(error.message, "bad", error.remedy or ""))
        except Exception:
            _log.exception("the page %s failed", path)
            show(note(_FAILED, "bad"))


def not_found(desk: Desk) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return the handler of requests for pages that don't exist."""

    async def answer(request: Request, error: Exception) -> Response:
        if request.url.path.startswith("/_"):
            # Of the framework, which asks for files and not for pages.
            return PlainTextResponse("Not found.\n", 404)
        said = Markup('<p>The address may be mistyped, or what it showed is gone. <a href="/">Home</a></p>')
        return _instead(desk, request, "There is no such page", said, 404)

    return answer


def refused(desk: Desk) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return the handler of requests for files that cannot be downloaded."""

    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, MailerError)
        said = note(error.message, "bad", error.remedy or "")
        status = next((code for kind, code in _STATUSES.items() if isinstance(error, kind)), 500)
        return _instead(desk, request, "This cannot be downloaded", said, status)

    return answer


def _instead(desk: Desk, request: Request, title: str, said: Markup, status: int) -> Response:
    """Return a page in place of what was asked for."""
    with Client(ui.page(""), request=request) as client:
        visit = Visit(request.scope[VISITOR], request.headers.get("user-agent", ""))
        _navigation(desk, visit, request.url.path)
        heading(title)
        show(said)
    return client.build_response(request, status)


def heading(title: str, *, above: tuple[str, str] | None = None) -> ui.element:
    """Add the page's heading; return the place for buttons beside it. `above` links to the page above."""
    ui.page_title(title)
    with ui.element("div").classes("head"):
        crumb = Markup('<a class="crumb" href="{}">{}</a>').format(*above) if above else Markup("")
        show(Markup("{}<h1>{}</h1>").format(crumb, title))
        return ui.element("div").classes("actions")


@contextmanager
def card(title: str = "") -> Iterator[None]:
    """Add a card; the block fills it."""
    with ui.element("section").classes("card"):
        if title:
            show(Markup("<h2>{}</h2>").format(title))
        with ui.element("div").classes("stack"):
            yield


def button(text: str, handler: Handler, kind: str = "plain") -> ui.button:
    """Add a button; errors of its handler are shown in plain words. `kind`: main, plain, danger or flat."""
    made = ui.button(text, color=None).props("unelevated no-caps").classes(kind)

    async def clicked() -> None:
        made.disable()
        try:
            await told(handler)
        finally:
            if not made.is_deleted:
                made.enable()

    return made.on_click(clicked)


async def told(handler: Handler) -> None:
    """Run a handler; show its error to the person. The handler may remove the button that called it."""
    client = ui.context.client
    with client:
        await _told(handler)


async def _told(handler: Handler) -> None:
    try:
        await handler()
    except MailerError as error:
        complain(error)
    except asyncio.CancelledError:
        raise
    except Exception:
        _log.exception("an event failed")
        ui.notify(_FAILED, type="negative", position="top")


def complain(error: MailerError) -> None:
    """Show an error with its remedy until the person closes it."""
    remedy = f" {error.remedy[:1].upper()}{error.remedy[1:]}." if error.remedy else ""
    ui.notify(
        f"{error.message}.{remedy}",
        type="negative",
        position="top",
        timeout=0,
        close_button="Close",
        multi_line=True,
    )


def say(text: str) -> None:
    """Show a short message that goes away."""
    ui.notify(text, type="positive", position="top")


def field(label: str, value: str = "", **more: str) -> ui.input:
    """Add a text field."""
    made = ui.input(label, value=value).props("outlined dense")
    for name, setting in more.items():
        made.props(f'{name.replace("_", "-")}="{setting}"')
    return made


async def confirmed(title: str, content: Markup, action: str, *, danger: bool = False) -> bool:
    """Return whether the person agrees; the dialog shows exactly what would happen."""
    with ui.dialog() as dialog, ui.element("div").classes("box").props('role="document"'):
        show(Markup("<h2>{}</h2>").format(title))
        show(content)
        with ui.element("div").classes("actions"):
            choice(dialog, action, "yes", "danger" if danger else "main")
            choice(dialog, "Cancel", "", "plain").props("autofocus")
    dialog.props(f'aria-label="{title.replace(chr(34), "")}"')
    answer = await dialog
    dialog.delete()
    return bool(answer == "yes")


def file_button(
    label: str,
    uploaded: Callable[[events.UploadEventArguments], Awaitable[None]],
    *,
    accept: str,
    most_octets: int,
) -> None:
    """Add a button that uploads a file as soon as the person has chosen it."""
    too_large = MailerError(f"A file may have up to {most_octets // 1_048_576} MB")
    upload = ui.upload(
        auto_upload=True,
        max_file_size=most_octets,
        on_upload=uploaded,
        on_rejected=lambda: complain(too_large),
    )
    # The framework's own element cannot be used with a keyboard.
    upload.props(f'accept="{accept}"').style("display: none")

    async def pick() -> None:
        upload.run_method("pickFiles")

    button(label, pick)


def choice(dialog: ui.dialog, label: str, answer: str, kind: str) -> ui.button:
    """Add a button that closes a dialog with an answer."""
    made = ui.button(label, color=None, on_click=lambda: dialog.submit(answer))
    return made.props("unelevated no-caps").classes(kind)


def _navigation(desk: Desk, visit: Visit, path: str) -> None:
    ui.add_head_html('<link rel="stylesheet" href="/console.css"><link rel="icon" href="/icon.svg">')
    name = desk.settings.newsletter.name
    with (
        # Not `value=None`: the framework would then ask each browser, and log an error if it is slow.
        ui.left_drawer(value=False, bordered=False)
        .props("width=226 breakpoint=899 show-if-above")
        .classes("side") as drawer
    ):
        show(Markup('<a class="brand" href="/"><img src="/icon.svg" alt="">{}</a>').format(name))
        may_audit = visit.visitor.role.may(Role.ADMIN)
        pages = [one for one in _PAGES if may_audit or one[0] != "/audit"]
        links = Markup("").join(_link(target, label, path) for target, label in pages)
        show(Markup('<nav aria-label="Console">{}</nav>').format(links))
        show(
            Markup(
                '<div class="who">{} · {}<form method="post" action="/logout">'
                "<button>Log out</button></form></div>"
            ).format(visit.visitor.name, visit.visitor.role)
        ).style("margin-top:auto")
    with ui.header().classes("topbar"):
        ui.button(icon="menu", color=None, on_click=drawer.toggle).props(
            'flat dense aria-label="Menu"'
        ).classes("flat")
        show(Markup('<span class="name">{}</span>').format(name))


def _link(target: str, label: str, path: str) -> Markup:
    here = path == target or (target != "/" and path.startswith(f"{target}/"))
    return Markup(
        '<a href="{}"{}><svg viewBox="0 0 24 24" fill="none" stroke-width="1.8" stroke-linecap="round" '
        'stroke-linejoin="round" aria-hidden="true"><path d="{}"/></svg>{}</a>'
    ).format(target, Markup(' aria-current="page"') if here else "", _ICONS[label], label)
