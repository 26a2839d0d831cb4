"""The `mailer` command."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import signal
import sys
import threading

import click

from mailer import __version__
from mailer.cli.app import App, Group, imported
from mailer.errors import ConfigError, ExitCode, MailerError

# Command to `module:attribute`; a command's module is imported when it is used.
# The help page keeps this order: what an operator needs first comes first.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("mailer.cli.demo:demo", "Try everything on this machine with made-up subscribers."),
    "init": ("mailer.cli.init:init", "Create a newsletter: config.toml, templates and a first issue."),
    "new": ("mailer.cli.new:new", "Create the next issue."),
    "preview": ("mailer.cli.preview:preview", "Show an issue in the browser while you write it."),
    "render": ("mailer.cli.render:render", "Write an issue to .html, .txt and .eml files."),
    "lint": ("mailer.cli.lint:lint", "Check an issue for mistakes before you send it."),
    "test": ("mailer.cli.testing:test", "Send an issue to yourself."),
    "plan": ("mailer.cli.plan:plan", "Show who would get an issue, its size, and how long sending takes."),
    "rehearse": (
        "mailer.cli.rehearse:rehearse",
        "Rehearse sending an issue against a misbehaving server.",
    ),
    "send": ("mailer.cli.send:send", "Send an issue or resume sending."),
    "ab": ("mailer.cli.ab:ab", "Show the A/B test of an issue, and choose an arm yourself."),
    "schedule": ("mailer.cli.schedule:schedule", "Send an issue at a set time; list or cancel such issues."),
    "sequences": (
        "mailer.cli.sequences:sequences",
        "Send each person a series of messages, starting when they enter.",
    ),
    "worker": ("mailer.cli.worker:worker", "Send scheduled issues, retries and letters until you stop it."),
    "workers": ("mailer.cli.workers:workers", "Show which processes are sending, and since when."),
    "status": ("mailer.cli.status:status", "Show the deliveries of one issue or all issues."),
    "stats": ("mailer.cli.stats:stats", "Show statistics of the list and its issues."),
    "pause": ("mailer.cli.status:pause", "Pause an issue until you resume it."),
    "resume": ("mailer.cli.status:resume", "Allow a paused issue to be sent."),
    "cancel": ("mailer.cli.status:cancel", "Stop an issue permanently; unsent deliveries are skipped."),
    "withdraw": ("mailer.cli.status:withdraw", "Take an unsent issue out of the queue to correct it."),
    "amend": ("mailer.cli.amend:amend", "Correct a partly sent issue for those who don't have it yet."),
    "retry": ("mailer.cli.status:retry", "Queue failed, deferred or uncertain deliveries again."),
    "bounces": ("mailer.cli.bounces:bounces", "Read bounces and show their effects."),
    "why": ("mailer.cli.why:why", "Show an address's history."),
    "serve": (
        "mailer.cli.serve:serve",
        "Serve the web pages: the site, sign-up, unsubscribing and preferences.",
    ),
    "console": ("mailer.cli.console:console", "Open the console: write, send and watch in a browser."),
    "users": ("mailer.cli.users:users", "Add, list and remove the people who may use the console."),
    "outbox": ("mailer.cli.outbox:outbox", "Show messages kept in the local outbox."),
    "subscribers": (
        "mailer.cli.subscribers:subscribers",
        "Add, import, export, list and erase subscribers.",
    ),
    "tokens": ("mailer.cli.tokens:tokens", "Create, list and revoke API tokens."),
    "webhooks": ("mailer.cli.webhooks:webhooks", "Notify other programs of events."),
    "templates": (
        "mailer.cli.templates:templates",
        "Compare your templates with this version's, and update them.",
    ),
    "dkim": ("mailer.cli.dkim:dkim", "Create DKIM keys and print their DNS records."),
    "config": ("mailer.cli.config:config", "Show and check settings."),
    "doctor": ("mailer.cli.doctor:doctor", "Check whether mail from here will arrive: DNS, relays, pages."),
    "dmarc": ("mailer.cli.dmarc:dmarc", "Show who sends mail in your name, as receivers report it."),
    "db": ("mailer.cli.db:db", "Upgrade, back up and check the database."),
    "upgrade": (
        "mailer.cli.upgrading:upgrade",
        "Upgrade the database after you have installed a new version.",
    ),
    "help": ("mailer.cli.helping:help_command", "Show the help page of a command."),
    "completion": ("mailer.cli.helping:completion", "Print the completion script for your shell."),
    "man": ("mailer.cli.helping:man", "Write manual pages."),
}
# Started by other commands, not by people.
HIDDEN: dict[str, str] = {"share": "mailer.cli.share:share_command"}


class _Lazy(Group):
    """The top group: lists its commands without importing them."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        place = HIDDEN.get(name) or COMMANDS.get(name, ("", ""))[0]
        return imported(place) if place else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if arguments and arguments[0] not in {**COMMANDS, **HIDDEN} and not arguments[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise click.UsageError(f"There is no command '{arguments[0]}'.{hint}", context)
        return super().resolve_command(context, arguments)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="mailer", message="%(prog)s %(version)s")
def mailer() -> None:
    """Write a newsletter in Markdown, send it, and see who got it.

    Exit codes: 0 success, 1 failure, 2 usage, 3 lint findings, 4 some deliveries not sent, 5 refused by
    a safety check, 6 configuration or relay, 7 another run is sending, 130 interrupted.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with one of `ExitCode`."""
    # A command imports thousands of objects that stay, and the default of 700 searches them again and again.
    gc.set_threshold(20_000)
    sys.unraisablehook = _keep_interrupt
    code = run(sys.argv[1:] if arguments is None else arguments)
    # Otherwise the interpreter searches all objects for garbage once more before it ends.
    gc.freeze()
    sys.exit(code)


def _keep_interrupt(unraisable: sys.UnraisableHookArgs) -> None:
    """Deliver Ctrl-C again if it came in the callback of a weak reference, where Python ignores it.

    Each import of a module runs such a callback.
    """
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)
        return
    again = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    with contextlib.closing(App()) as app:
        return _run(app, arguments)


def _run(app: App, arguments: list[str]) -> int:
    """Run the command line and return its exit code; all errors are printed here, in one form."""
    try:
        check_system(sys.platform, sys.version_info[:2])
        _check_text(arguments)
        result: object = mailer.main(args=arguments, prog_name="mailer", standalone_mode=False, obj=app)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except MailerError as error:
        return _tell(app, error.message, error.remedy, error.exit_code)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output closed it (`mailer … | head`); that is not our error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _tell(
            app,
            f"{place}{error.strerror or type(error).__name__}",
            _FILE_REMEDIES.get(error.errno or 0, "check the name and the permissions"),
            ExitCode.FAILURE,
        )
    except Exception as error:
        # The other lines of a database error contain SQL and addresses.
        said = str(error).partition("\n")[0]
        return _tell(
            app,
            f"unexpected {type(error).__name__}: {said}",
            "this is a bug; run the command again with --debug and report the traceback",
            ExitCode.FAILURE,
        )
    return result if isinstance(result, int) else ExitCode.DONE


_FILE_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space, then run the command again"),
    errno.EROFS: "the disk is read-only: write to another folder, or make it writable",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
}


def check_system(platform: str, python: tuple[int, int]) -> None:
    """Raise `ConfigError` where mailer cannot work: it locks files and ends processes as POSIX does."""
    if platform in ("win32", "cygwin", "emscripten", "wasi"):
        raise ConfigError(
            f"mailer runs on Linux, macOS and other Unix systems, not on {platform}",
            remedy="on Windows, install it in WSL: https://learn.microsoft.com/windows/wsl/install",
        )
    if python < (3, 11):
        raise ConfigError(
            f"mailer needs Python 3.11 or newer, and this is {python[0]}.{python[1]}",
            remedy="install a newer Python, then mailer again",
        )


def _check_text(arguments: list[str]) -> None:
    """Raise `UsageError` for an argument with bytes that are not UTF-8, which Python keeps as surrogates."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = argument.encode(errors="backslashreplace").decode()
            raise click.UsageError(
                f"the argument '{shown}' is not UTF-8; retype it, or rename the file"
            ) from None


def _tell(app: App, message: str, remedy: str | None, code: ExitCode) -> int:
    if app.debug:
        import traceback

        traceback.print_exc()
    if app.log_format == "json":
        logging.getLogger("mailer").error("%s", f"{message}; {remedy}" if remedy else message)
        return code
    click.secho("error: ", fg="red", nl=False, err=True)
    click.echo(message, err=True)
    if remedy:
        click.echo(f"  next: {remedy}", err=True)
    return code
