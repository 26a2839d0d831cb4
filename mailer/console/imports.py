"""Importing subscribers: upload, look at what would change, import, and revert."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from markupsafe import Markup, escape
from nicegui import events, ui
from starlette.requests import Request

from mailer.audience.transfer.importing import ImportProgress, ImportReport, import_file
from mailer.audience.transfer.presets import PLAIN, PRESETS, Preset, preset_of
from mailer.audience.transfer.reverting import ImportSummary, Reverted, imports, revert
from mailer.console.desk import Change, Desk, Visit
from mailer.console.frame import add_page, button, card, confirmed, field, file_button, heading, say, told
from mailer.console.guard import MAX_UPLOAD_OCTETS
from mailer.console.markup import diff, facts, note, show, table, when
from mailer.console.users import Role
from mailer.errors import RefusedError
from mailer.rendering.source.new import slug

_SUFFIXES: Final = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".xlsx", ".xls", ".ods")


def add_pages(desk: Desk) -> None:
    """Add the import wizard."""

    async def build(visit: Visit, request: Request) -> None:
        heading("Import subscribers", above=("/subscribers", "Subscribers"))
        _Wizard(desk, visit).build()
        earlier = await desk.read(lambda connection: imports(connection, limit=20))
        with card("Earlier imports"):
            _list(desk, visit, earlier)

    add_page(desk, "/subscribers/import", "Import subscribers", build, Role.SENDER)


@dataclass(slots=True)
class _Upload:
    """The file that was uploaded; its folder is deleted with it."""

    folder: tempfile.TemporaryDirectory[str]
    path: Path


class _Wizard:
    def __init__(self, desk: Desk, visit: Visit) -> None:
        self._desk = desk
        self._visit = visit
        self._upload: _Upload | None = None
        self._progress: ImportProgress | None = None

    def build(self) -> None:
        with card("1. Choose a file"):
            show(
                Markup('<p class="soft">CSV, JSON Lines or a spreadsheet. Encoding, delimiter and the usual '
                       "column names are detected. Nothing is imported yet.</p>")
            )  # fmt: skip
            with ui.element("div").classes("actions"):
                file_button(
                    "Choose a file", self._uploaded, accept=",".join(_SUFFIXES), most_octets=MAX_UPLOAD_OCTETS
                )
                self._chosen = show(Markup(""))
        with card("2. Columns"):
            with ui.element("div").classes("fields"):
                names = {"": "Detect the columns", **{name: name for name in PRESETS}}
                names |= {name: f"{name} (config.toml)" for name in self._desk.settings.imports}
                self._preset = ui.select(names, value="", label="Exported from").props("outlined dense")
                self._tags = field("Tags for everyone", hint="Separated by commas.")
                self._map = field("Columns", hint="Such as email=Adresse, name=Nom.").classes("whole")
            with ui.element("div").classes("actions"):
                button("Show what would change", self._try, "main")
        self._result = ui.element("div").classes("stack")
        self._bar = show(Markup("")).props('role="status"')
        ui.timer(0.5, self._show_progress)

    async def _uploaded(self, event: events.UploadEventArguments) -> None:
        async def store() -> None:
            await self._desk.check(self._visit, Role.SENDER)
            self._forget()
            stem, _, suffix = event.file.name.rpartition(".")
            if f".{suffix.lower()}" not in _SUFFIXES:
                raise RefusedError(f"Files may end in {', '.join(_SUFFIXES)}")
            folder = tempfile.TemporaryDirectory(prefix="mailer-import-")
            path = Path(folder.name, f"{slug(stem)}.{suffix.lower()}")
            await event.file.save(path)
            self._upload = _Upload(folder, path)
            self._chosen.content = Markup("<span>{}</span>").format(event.file.name)
            ui.context.client.on_delete(self._forget)
            await self._try()

        await told(store)

    def _forget(self) -> None:
        if self._upload is not None:
            self._upload.folder.cleanup()
            self._upload = None

    async def _try(self) -> None:
        """Import without keeping anything, and show what would change."""
        upload = self._uploaded_file()
        run = self._run(upload, dry_run=True)
        report = await self._desk.act(self._visit, Role.SENDER, Change("import.try", upload.path.name), run)
        self._progress = None
        self._result.clear()
        with self._result, card("3. What would change"):
            _show_report(report)
            if report.changes:
                show(diff(report.changes))
            with ui.element("div").classes("actions"):
                button("Import", self._import, "main")

    async def _import(self) -> None:
        upload = self._uploaded_file()
        report = await self._desk.act(
            self._visit,
            Role.SENDER,
            Change("import", upload.path.name, {"tags": self._tag_list()}),
            self._run(upload, dry_run=False),
        )
        self._progress = None
        self._result.clear()
        with self._result, card("Imported"):
            _show_report(report)
            ui.link("See the subscribers", "/subscribers")
        say(f"Imported: {report.added:,} added, {report.updated:,} updated")

    def _uploaded_file(self) -> _Upload:
        if self._upload is None:
            raise RefusedError("Choose a file first")
        return self._upload

    def _run(self, upload: _Upload, *, dry_run: bool) -> partial[ImportReport]:
        return partial(
            import_file,
            self._desk.database,
            upload.path,
            secret=self._desk.database.secrets()[0],
            at=datetime.now(UTC),
            preset=self._columns(),
            tags=self._tag_list(),
            dry_run=dry_run,
            progress=self._note_progress,
        )

    def _columns(self) -> Preset:
        name = self._preset.value or ""
        own = self._desk.settings.imports
        base = preset_of(own[name]) if name in own else PRESETS.get(name, PLAIN)
        named: dict[str, str] = {}
        for pair in filter(str.strip, (self._map.value or "").split(",")):
            key, equals, column = (part.strip() for part in pair.partition("="))
            if not (key and equals and column):
                raise RefusedError("Write the columns as FIELD=COLUMN, separated by commas")
            named[key] = column
        return base.with_columns(named)

    def _tag_list(self) -> list[str]:
        return [tag.strip() for tag in (self._tags.value or "").split(",") if tag.strip()]

    def _note_progress(self, progress: ImportProgress) -> None:
        # Called in the import's thread; the page looks at it twice a second.
        self._progress = progress

    def _show_progress(self) -> None:
        progress = self._progress
        if progress is None:
            self._bar.content = Markup("")
            return
        share = 100 * progress.read / progress.octets if progress.octets else 0
        self._bar.content = Markup(
            '<p class="soft">{} rows read</p>'
            '<div class="bar"><i class="sent" style="width:{:.1f}%"></i></div>'
        ).format(f"{progress.rows:,}", share)


def _show_report(report: ImportReport) -> None:
    names = {
        "added": "added",
        "updated": "updated",
        "unchanged": "unchanged",
        "kept_out": "kept out: opted out, bounced, complained or erased before",
        "opted_out": "recorded as opted out",
        "taken_off": "unsubscribed: opted out in the file",
        "left_alone": "left alone: signed up here themselves later",
        "rejected": "rejected",
    }
    counts = [(name, getattr(report, key)) for key, name in names.items()]
    show(facts((name, f"{number:,}") for name, number in counts if number or name == "added"))
    for row in report.examples:
        show(note(f"Line {row.line}: {row.reason}", "warn", escape(row.value)))


def _list(desk: Desk, visit: Visit, earlier: list[ImportSummary]) -> None:
    if not earlier:
        show(Markup('<p class="empty">No imports yet.</p>'))
        return
    heads = ("#Number", "@Time", "File", "#Added", "#Updated", "#Rejected", "@Reverted")
    rows = [
        (str(one.id), when(one.at), Path(one.source).name, f"{one.added:,}", f"{one.updated:,}",
         f"{one.rejected:,}", when(one.reverted_at) if one.reverted_at else "")
        for one in earlier
    ]  # fmt: skip
    show(table(heads, rows, wide=(1, 4, 5)))
    latest = next((one for one in earlier if one.reverted_at is None), None)
    if latest is None:
        return

    async def undo() -> None:
        content = Markup("<p>People who were added and have not changed since are removed.</p>")
        if not await confirmed(f"Revert import {latest.id}?", content, "Revert", danger=True):
            return

        def work() -> Reverted:
            return revert(desk.database, latest.id, at=datetime.now(UTC))

        await desk.act(visit, Role.SENDER, Change("import.revert", str(latest.id)), work)
        ui.navigate.reload()

    with ui.element("div").classes("actions"):
        button(f"Revert import {latest.id}", undo, "danger")
