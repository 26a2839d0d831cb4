"""`mailer templates`: compare and update the newsletter's templates."""

from __future__ import annotations

from pathlib import Path

import click

from mailer.cli.app import App, Group, json_option, pass_app
from mailer.config.shipped import shipped
from mailer.errors import SourceError
from mailer.review.template_changes import ORIGIN, Change, compare, difference, update

_MEANING = {
    Change.NOBODY: "",
    Change.YOU: "you changed it",
    Change.MAILER: "the new version changed it; mailer templates update takes it",
    Change.BOTH: "you and the new version changed it; mailer templates diff shows the new version's changes",
    Change.UNKNOWN: "differs from the new version; which version you started from is not known",
    Change.ADDED: "new; mailer templates update adds it",
    Change.REMOVED: "you deleted it",
    Change.OWN: "yours alone",
}


@click.group(cls=Group)
def templates() -> None:
    """Compare your templates with those of this version, and update them."""


@templates.command()
@json_option
@pass_app
def status(app: App, as_json: bool) -> None:
    """List the templates that you or a new version changed."""
    found = compare(_folder(app), *_theirs(app))
    if as_json:
        app.emit({"templates": {one.name: one.change.value for one in found}})
        return
    shown = [one for one in found if _MEANING[one.change]]
    width = max((len(one.name) for one in shown), default=0)
    for one in shown:
        app.out(f"{one.name:<{width}}  {_MEANING[one.change]}")
    unchanged = len(found) - len(shown)
    app.say(f"{unchanged} {'template matches' if unchanged == 1 else 'templates match'} this version")


@templates.command()
@click.argument("name", required=False)
@pass_app
def diff(app: App, name: str | None) -> None:
    """Show what the new version changes in NAME.

    Without NAME, show this for every template that both you and the new version changed.
    """
    folder = _folder(app)
    found = {one.name: one.change for one in compare(folder, *_theirs(app))}
    if name is not None and name not in found:
        raise SourceError(f"there is no template '{name}'", remedy="list them with: mailer templates status")
    both = [one for one, change in found.items() if change in (Change.BOTH, Change.UNKNOWN)]
    for one in both if name is None else [name]:
        app.out(difference(folder, *_theirs(app), one).rstrip("\n"))


@templates.command("update")
@pass_app
def update_command(app: App) -> None:
    """Update the templates that you have not changed.

    Your own changes are never overwritten. If both you and the new version changed a template, the new one
    is written next to yours as NAME.new, and the version you started from as NAME.base. Merge the changes
    into yours, then delete both files.
    """
    folder = _folder(app)
    written = update(folder, *_theirs(app))
    for one, path in written:
        yours = folder / one.name
        if one.change is Change.BOTH:
            app.out(f"{path}: to merge it into yours: git merge-file {yours} {yours}.base {path}")
        elif one.change is Change.UNKNOWN:
            app.out(f"{path}: compare it with yours")
        else:
            app.out(f"{path}: {'added' if one.change is Change.ADDED else 'updated'}")
    if not written:
        app.out("nothing to update")


def _folder(app: App) -> Path:
    return app.settings.path(app.settings.paths.templates)


def _theirs(app: App) -> tuple[Path, Path]:
    """Return the folders of this version's templates, and of those that the operator's were made from."""
    return shipped("email_templates"), app.settings.folder / ORIGIN
