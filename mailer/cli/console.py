"""`mailer console`: the operator's console in a browser."""

from __future__ import annotations

import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Final

import click

from mailer.cli.app import App, Command, pass_app
from mailer.errors import ConfigError, install_command

_PACKAGES: Final = ("argon2", "authlib", "joserfc", "nicegui", "pyotp", "webauthn")
"""The packages that the extra `console` installs. Importing them takes a second."""


@click.command(cls=Command)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="The port to listen on; [console] port by default.",
)
@click.option("--open", "opens", is_flag=True, help="Open the console in your browser.")
@click.option("--link", "only_link", is_flag=True, help="Print another link to the console that is running.")
@click.option(
    "--no-worker", is_flag=True, help="Don't send anything from here, because `mailer worker` runs elsewhere."
)
@pass_app
def console(app: App, port: int | None, opens: bool, only_link: bool, no_worker: bool) -> None:
    """Open the console in a browser: write, check, preview, schedule, send, watch and explain.

    It listens on this machine only and prints a link that logs you in, once. While it runs, it also sends
    scheduled issues and retries, as `mailer worker` does.
    """
    need_extra()
    from mailer.console.sessions import make_link

    port = port or app.settings.console.port
    with app.database.transaction() as connection:
        secret = make_link(connection, at=datetime.now(UTC))
    path = f"/login?link={secret}"
    if only_link:
        app.out(f"http://127.0.0.1:{port}{path}")
        return
    from mailer.console.app import create_console
    from mailer.console.desk import Desk
    from mailer.web.server import serve_until_stopped

    def ready(url: str) -> None:
        app.out(f"{url}{path}")
        app.say("The link works once, for 15 minutes. Another one: mailer console --link. Stop with Ctrl-C.")
        if opens:
            webbrowser.open(f"{url}{path}")

    pages = create_console(Desk(app.config_path, app.database, app.signer), port=port)
    with _worker(app, wanted=not no_worker):
        serve_until_stopped(pages, host="127.0.0.1", port=port, proxies=app.settings.web.proxies, ready=ready)


def need_extra() -> None:
    """Raise `ConfigError` with the remedy if the console's libraries are not installed."""
    missing = next((name for name in _PACKAGES if find_spec(name) is None), None)
    if missing is not None:
        raise ConfigError(
            f"the console needs packages that are not installed ({missing})",
            remedy=f"install them with: {install_command('console')}",
        )


@contextmanager
def _worker(app: App, *, wanted: bool) -> Iterator[None]:
    """Run `mailer worker` beside the console. It stops cleanly when its standard input closes."""
    if not wanted:
        yield
        return
    command = [sys.executable, "-m", "mailer", "worker", "--quiet", "--every", "2", "--until-closed"]
    command += ["-C", str(app.config_path.parent.resolve()), "--config", str(app.config_path.resolve())]
    # Ctrl-C reaches the whole group of processes; the worker must outlive it until messages are settled.
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as worker:
        assert worker.stdin is not None
        try:
            yield
        finally:
            worker.stdin.close()
