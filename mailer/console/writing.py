"""An issue before it is sent: its text, and beside it the preview and what lint finds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from markupsafe import Markup
from nicegui import events, ui

from mailer.console import audit
from mailer.console.desk import Change, Desk, Visit
from mailer.console.frame import button, card, choice, file_button, say, told
from mailer.console.frames import Frames
from mailer.console.markup import diff, note, show, when
from mailer.console.users import Role
from mailer.errors import MailerError, RefusedError
from mailer.rendering.html.variants import Scheme, in_scheme, with_links_beside
from mailer.rendering.lint import Level
from mailer.rendering.source.fields import joined, parts, value_of, with_value
from mailer.review import sample
from mailer.review.drafts import (
    MAX_IMAGE_OCTETS,
    ChangedError,
    Draft,
    difference,
    save_draft,
    save_image,
)
from mailer.review.viewing import SANDBOX, Preview, preview

_FIELDS: Final = {
    "title": "Title",
    "date": "Date",
    "subject": "Subject (the title, if empty)",
    "preheader": "Preheader: the preview text in inboxes",
}
_IMAGES: Final = "image/png,image/jpeg,image/gif,image/webp"
_VIEWS: Final = ("Desktop", "Phone", "Dark", "Text")
_NAME_EDITOR: Final = """
const named = setInterval(() => {
  const content = document.querySelector('.cm-content');
  if (content) { content.setAttribute('aria-label', 'Text of the issue in Markdown'); clearInterval(named); }
  const scroller = document.querySelector('.cm-scroller');
  if (scroller) scroller.setAttribute('tabindex', '0');
}, 100);
setTimeout(() => clearInterval(named), 10000);
"""


@dataclass(slots=True)
class _Shown:
    """The views of the preview."""

    view: str = "Desktop"
    reader: str = ""
    preview: Preview | None = None


class Writing:
    """The editor of one issue, with its preview."""

    def __init__(self, desk: Desk, frames: Frames, visit: Visit, path: Path, draft: Draft) -> None:
        self._desk = desk
        self._frames = frames
        self._visit = visit
        self._path = path
        self._draft = draft
        self._front, body = parts(draft.text)
        self._saved = draft.text
        self._body = body
        self._rendered_for: tuple[str, str] | None = None
        self._shown = _Shown()
        self._may_edit = visit.visitor.role.may(Role.EDITOR)

    @property
    def text(self) -> str:
        """The text of the file as it would be saved now."""
        changed = joined(self._front, self._body)
        return self._draft.text if parts(self._draft.text) == (self._front, self._body) else changed

    @property
    def unsaved(self) -> bool:
        """Whether the text differs from the saved one."""
        return self.text != self._saved

    def build(self) -> None:
        """Add the editor and the preview to the page."""
        with ui.element("div").classes("writing"):
            with ui.element("div").classes("stack"):
                self._build_editor()
            with ui.element("div").classes("stack beside"):
                self._build_preview()
        ui.timer(0.5, lambda: told(self._follow))

    # The editor

    def _build_editor(self) -> None:
        with ui.element("div").classes("fields"):
            for key, label in _FIELDS.items():
                self._field(key, label)
        editor = ui.codemirror(
            self._body,
            language="Markdown",
            theme="basicLight",
            line_wrapping=True,
            indent="  ",
            on_change=lambda change: self._typed(change.value),
            keymap={"Mod-s": lambda: told(self.save)},
        )
        self._editor = editor
        if not self._may_edit:
            editor.disable()
        ui.run_javascript(_NAME_EDITOR)
        show(
            Markup('<p class="soft small">Ctrl+S saves. To leave the editor with the keyboard: Esc, Tab.</p>')
        )
        if self._may_edit:
            with ui.element("div").classes("actions"):
                button("Save", self.save, "main")
                file_button("Add an image", self._uploaded, accept=_IMAGES, most_octets=MAX_IMAGE_OCTETS)
                self._state = show(Markup('<span class="soft">Saved</span>')).props('role="status"')
        self._findings = ui.element("div").classes("stack")

    def _field(self, key: str, label: str) -> None:
        value = value_of(self._front, key)
        made = ui.input(label, value=value or "", on_change=lambda change: self._set(key, change.value))
        made.props("outlined dense")
        if key in ("subject", "preheader"):
            made.classes("whole")
        if value is None:
            made.props('hint="Written on several lines; change it in the file"').disable()
        elif not self._may_edit:
            made.disable()

    def _set(self, key: str, value: str | None) -> None:
        self._front = with_value(self._front, key, " ".join((value or "").split()))

    def _typed(self, value: str) -> None:
        self._body = value

    async def save(self) -> None:
        """Save the issue to its file, unless the file was changed meanwhile."""
        text = self.text
        change = Change("issue.save", self._path.stem, {"characters": len(text)})
        try:
            self._draft = await self._desk.act(
                self._visit,
                Role.EDITOR,
                change,
                lambda: save_draft(self._path, text, known=self._draft.digest),
            )
        except ChangedError as error:
            await self._show_conflict(error)
            return
        self._saved = text
        say("Saved")

    async def _show_conflict(self, error: ChangedError) -> None:
        """Show both versions; the person keeps one of them, or goes on editing."""
        latest = await self._desk.read(
            lambda connection: audit.entries(connection, act="issue.save", about=self._path.stem, limit=1)
        )
        fresh = latest and latest[0].at.timestamp() >= error.theirs.path.stat().st_mtime - 5
        who = f"{latest[0].who} saved it at {when(latest[0].at)}" if fresh else "It was changed on disk"
        with (
            ui.dialog().props('persistent aria-label="Two versions"') as dialog,
            ui.element("div").classes("box").style("width:min(820px,94vw)"),
        ):
            show(Markup("<h2>Someone else changed this issue</h2>"))
            show(
                    Markup("<p>{} while you were editing. Nothing was overwritten. <code>-</code> is on "
                           "disk now, <code>+</code> is your version.</p>").format(who)
                )  # fmt: skip
            show(diff(difference(error.theirs.text, self.text)))
            with ui.element("div").classes("actions"):
                choice(dialog, "Keep editing", "", "main")
                choice(dialog, "Replace it with my version", "mine", "plain")
                choice(dialog, "Discard mine and load theirs", "theirs", "danger")
        answer = await dialog
        dialog.delete()
        if answer == "mine":
            self._draft = error.theirs
            await self.save()
        elif answer == "theirs":
            ui.run_javascript("window.onbeforeunload = null; location.reload()")

    async def _uploaded(self, event: events.UploadEventArguments) -> None:
        async def store() -> None:
            await self._desk.check(self._visit, Role.EDITOR)
            if event.file.size() > MAX_IMAGE_OCTETS:
                raise RefusedError(f"An image may have up to {MAX_IMAGE_OCTETS // 1_048_576} MB")
            content = await event.file.read()
            folder = self._path.parent / "images"
            saved = await self._desk.act(
                self._visit,
                Role.EDITOR,
                Change("issue.image", self._path.stem, {"octets": len(content)}),
                lambda: save_image(folder, event.file.name, content),
            )
            addition = f"\n\n![Describe the picture](images/{saved.name})\n"
            self._editor.value = self._body.rstrip("\n") + addition
            say(f"images/{saved.name} was added at the end. Describe it for people who cannot see it.")

        await told(store)

    # The preview

    def _build_preview(self) -> None:
        with ui.element("div").classes("actions").props('role="group" aria-label="Preview"'):
            self._buttons = {view: button(view, partial(self._look, view), "plain") for view in _VIEWS}
            reader = ui.input("As a subscriber (address)").props("outlined dense").style("max-width:230px")
            reader.on("keydown.enter", lambda: self._as(reader.value or ""))
            reader.on("blur", lambda: self._as(reader.value or ""))
        self._inbox = show(Markup(""))
        self._frame = ui.element("iframe").classes("mail").props(f'sandbox="{SANDBOX}" title="Preview"')
        self._plain = ui.element("div")
        self._mark()

    async def _look(self, view: str) -> None:
        self._shown.view = view
        self._mark()
        self._draw()

    def _as(self, address: str) -> None:
        self._shown.reader = address.strip()

    def _mark(self) -> None:
        for view, made in self._buttons.items():
            chosen = view == self._shown.view
            made.classes(add="on" if chosen else "", remove="" if chosen else "on")
            made.props(f'aria-pressed="{str(chosen).lower()}"')

    async def _follow(self) -> None:
        """Render again if the text or the reader has changed; show whether something is unsaved."""
        if self._may_edit:
            self._state.content = Markup('<span class="soft">{}</span>').format(
                "Unsaved changes" if self.unsaved else "Saved"
            )
        wanted = (self.text, self._shown.reader)
        if wanted == self._rendered_for:
            return
        self._rendered_for = wanted
        ui.run_javascript(f"window.onbeforeunload = {'() => true' if self.unsaved else 'null'}")
        try:
            self._shown.preview = await asyncio.to_thread(self._render, *wanted)
        except MailerError as error:
            self._shown.preview = None
            self._findings.clear()
            with self._findings:
                show(note(error.message, "bad", error.remedy or ""))
            return
        self._draw()
        self._list_findings(self._shown.preview)

    def _render(self, text: str, reader: str) -> Preview:
        recipient = sample.reader_at(self._desk.database, reader) if reader else None
        return preview(self._desk.settings, self._path, recipient, text=text)

    def _draw(self) -> None:
        found, view = self._shown.preview, self._shown.view
        if found is None:
            return
        self._inbox.content = Markup(
            '<div class="inbox"><b>{}</b><br><span class="soft small">{} · to {}</span><br>{}</div>'
        ).format(found.subject, found.sender, found.reader, found.preheader)
        self._frame.set_visibility(view != "Text")
        self._plain.clear()
        if view == "Text":
            with self._plain:
                show(Markup('<pre class="text" tabindex="0">{}</pre>').format(found.rendered.text))
            return
        scheme = Scheme.DARK if view == "Dark" else Scheme.LIGHT
        html = with_links_beside(in_scheme(found.rendered.html, scheme))
        self._frame.props(f'src="{self._frames.keep(self._visit.visitor.digest, html)}"')
        self._frame.classes(
            add=" ".join(["phone"] * (view == "Phone") + ["dark"] * (view == "Dark")), remove="phone dark"
        )

    def _list_findings(self, found: Preview) -> None:
        """Show lint's findings, each with its line in the editor."""
        before = self.text.count("\n") - self._body.count("\n")
        self._findings.clear()
        report = found.report
        with self._findings, card("Checks"):
            if not report.findings:
                show(note("Lint found nothing to correct.", "good"))
            with ui.element("ul").classes("findings"):
                for finding in report.findings:
                    tone = {Level.ERROR: "bad", Level.WARNING: "warn", Level.INFO: ""}[finding.level]
                    with ui.element("li"):
                        show(
                            Markup('<span class="tag {}">{}</span> {} <span class="soft">{}</span>').format(
                                tone, finding.level, finding.message, finding.remedy
                            )
                        )
                        if finding.line and finding.line > before:
                            self._line_button(finding.line - before)
            show(
                Markup('<p class="soft small">{} words, {}; {:,.0f} KB of HTML.</p>')
                .format(report.words, report.reading_time, report.html_bytes / 1024)
            )  # fmt: skip

    def _line_button(self, line: int) -> None:
        async def reveal() -> None:
            self._editor.reveal_line(line)

        button(f"Line {line}", reveal, "flat")
