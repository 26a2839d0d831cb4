"""A console in this process, whose pages have every button pressed as an attacker's browser could."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import httpx
from nicegui import Client, ui
from nicegui.element import Element

from mailer.console.app import create_console
from mailer.console.desk import Desk
from mailer.console.guard import cookie_name

PORT: Final = 8099
AGENT: Final = "test browser"
_QUIET_TURNS: Final = 15
_ARGUMENT: Final = '{"key": "Mod-s", "anchors": {}}'
"""What the browser says about any event: the key of the editor that saves."""
_TYPED: Final = ("update:modelValue", "update:value")


class Pressed:
    """The pages of a console, without a browser."""

    def __init__(self, client: httpx.AsyncClient, working: _Working) -> None:
        self.http = client
        self.before: Callable[[], object] = lambda: None
        """Called before a page is opened."""
        self.after: Callable[[], object] = lambda: None
        """Called once a page is open, before its events."""
        self._working = working

    async def press(
        self, path: str, fill: Mapping[str, object], *, skip: frozenset[str] = frozenset()
    ) -> None:
        """Open a page; then fire every event of each element, also of those that appear meanwhile."""
        page = await self._opened(path)
        fired: set[str] = set()
        while fresh := [pair for pair in _listeners(page) if pair[1] not in fired]:
            for element, listener, type_ in fresh:
                fired.add(listener)
                if element.id in page.elements and type_ not in _TYPED and _label(element) not in skip:
                    _fill(page, fill)
                    page.handle_event({"id": element.id, "listener_id": listener, "args": [_ARGUMENT]})
                    await self._settled()
        page.delete()

    async def upload(self, path: str, name: str, content: bytes, then: Callable[[Client], object]) -> None:
        """Upload a file to the page's first upload field, then press every other button."""
        page = await self._opened(path)
        field = next(one for one in page.elements.values() if isinstance(one, ui.upload))
        target = str(field.props["url"])
        answer = await self.http.post(target, files={"file": (name, content)})
        assert answer.status_code == 200
        # The framework writes the file in a thread of its own.
        await asyncio.sleep(0.2)
        await self._settled()
        then(page)
        await self._settled()
        page.delete()

    async def _opened(self, path: str) -> Client:
        self.before()
        before = set(Client.instances)
        answer = await self.http.get(path)
        assert answer.status_code == 200, path
        (made,) = set(Client.instances) - before
        await self._settled()
        self.after()
        return Client.instances[made]

    async def _settled(self) -> None:
        quiet = 0
        while quiet < _QUIET_TURNS:
            await asyncio.sleep(0)
            quiet = quiet + 1 if not self._working.busy else 0
            if self._working.busy:
                await asyncio.sleep(0.005)


class _Working(ThreadPoolExecutor):
    """Counts the work that pages have given to threads."""

    def __init__(self) -> None:
        super().__init__(4)
        self._given: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Give work to a thread."""
        future = super().submit(fn, *args, **kwargs)
        self._given.add(future)
        return future

    @property
    def busy(self) -> bool:
        """Whether some of it is not done."""
        self._given = {one for one in self._given if not one.done()}
        return bool(self._given)


@asynccontextmanager
async def pressed(desk: Desk) -> AsyncIterator[Pressed]:
    """Start the console; the block gets its pages. Once in a process."""
    working = _Working()
    asyncio.get_running_loop().set_default_executor(working)
    app = create_console(desk, port=PORT)
    headers = {"user-agent": AGENT, "origin": f"http://127.0.0.1:{PORT}"}
    transport = httpx.ASGITransport(app=app)
    async with (
        _lifespan(app),
        httpx.AsyncClient(
            transport=transport, base_url=f"http://127.0.0.1:{PORT}", headers=headers, timeout=60
        ) as client,
    ):
        yield Pressed(client, working)


@contextmanager
def as_session(pages: Pressed, secret: str) -> Iterator[None]:
    """Send this session's cookie in the block."""
    pages.http.cookies.set(cookie_name("", PORT), secret)
    yield
    pages.http.cookies.clear()


@asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    """Run an application's start and end, as a server does."""
    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    running = asyncio.create_task(
        app({"type": "lifespan", "asgi": {"version": "3.0"}}, inbox.get, outbox.put)
    )
    await inbox.put({"type": "lifespan.startup"})
    assert (await outbox.get())["type"] == "lifespan.startup.complete"
    yield
    await inbox.put({"type": "lifespan.shutdown"})
    await running


def _listeners(page: Client) -> list[tuple[Element, str, str]]:
    return [
        (element, listener.id, listener.type)
        for element in list(page.elements.values())
        for listener in list(element._event_listeners.values())
    ]


def _label(element: Element) -> str:
    return element.text if isinstance(element, ui.button) else ""


def _fill(page: Client, fill: Mapping[str, object]) -> None:
    """Type into the fields whose label begins with a key of `fill`."""
    for element in list(page.elements.values()):
        if isinstance(element, ui.codemirror):
            element.value = fill.get("{text}", element.value)
        elif isinstance(element, (ui.input, ui.select)):
            label = str(element.props.get("label", ""))
            for key, value in fill.items():
                if label.startswith(key) and element.value != value:
                    element.value = value
