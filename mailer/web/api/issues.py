"""The routes about issues."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException

from mailer.api_tokens import Scope, Token
from mailer.config import Settings
from mailer.database.engine import Database
from mailer.database.tables import DeliveryState
from mailer.delivery import editions, enqueueing, issues, listing, local_time, requests
from mailer.delivery import schedule as schedules
from mailer.delivery.books import running_books
from mailer.delivery.issues import QueuedIssue
from mailer.errors import RefusedError
from mailer.rendering.source.new import create_issue, slug
from mailer.review import directory, drafts, release, viewing
from mailer.review.directory import Entry
from mailer.web.api.schemas import (
    Cursor,
    DeliveryDetails,
    DeliveryPage,
    IdempotencyKey,
    IssueDetails,
    IssueEntry,
    IssuePage,
    IssueText,
    Limit,
    NewIssue,
    Planned,
    Previewed,
    Queued,
    Report,
    Schedule,
    Sending,
    Slug,
)

_NONE: Final = "There is no such issue."


class IssueRoutes:
    """The routes of `/issues`."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def router(self, may: Callable[[Scope], Any]) -> APIRouter:
        """Return the routes; `may` returns the dependency that checks for a scope."""
        router = APIRouter(tags=["issues"])
        route, one = router.add_api_route, "/issues/{issue}"
        read, write, send = may(Scope.READ_ISSUES), may(Scope.WRITE_ISSUES), may(Scope.SEND_ISSUES)
        route("/issues", self.list, methods=["GET"], dependencies=[read])
        route("/issues", self.create, methods=["POST"], status_code=201, dependencies=[write])
        route(one, self.get, methods=["GET"], dependencies=[read])
        route(one, self.update, methods=["PUT"], dependencies=[write])
        route(one + "/lint", self.lint, methods=["POST"], dependencies=[read])
        route(one + "/preview", self.preview, methods=["GET"], dependencies=[read])
        route(one + "/books", self.books, methods=["GET"], dependencies=[read])
        # Deliveries name people.
        route(one + "/deliveries", self.deliveries, methods=["GET"], dependencies=[read, may(Scope.READ)])
        route(one + "/schedule", self.schedule, methods=["PUT"], dependencies=[send])
        route(one + "/schedule", self.unschedule, methods=["DELETE"], status_code=204, dependencies=[send])
        route(one + "/send", self.send, methods=["POST"], status_code=202, dependencies=[send])
        return router

    def list(
        self,
        cursor: Annotated[str, Query(max_length=200, description="The `next` of the previous page.")] = "",
        state: Annotated[
            str, Query(pattern=r"^[a-z]{0,20}$", description="For example `draft` or `finished`.")
        ] = "",
        limit: Limit = 50,
    ) -> IssuePage:
        """List drafts, scheduled and queued issues, the latest first."""
        with self._database.reading() as connection:
            found = directory.entries(connection, self._settings)
        found = [one for one in found if (not cursor or one.slug < cursor) and state in ("", one.state)]
        following = found[limit - 1].slug if len(found) > limit else None
        return IssuePage(items=[_entry(one) for one in found[:limit]], next=following)

    def create(self, response: Response, new: NewIssue) -> IssueDetails:
        """Create the file of a new issue. Its slug is made from the next number and the title."""
        folder = self._settings.path(self._settings.paths.issues)
        path = create_issue(folder, new.title, slug(new.title), on=datetime.now(UTC).date())
        if new.source is not None:
            drafts.save_draft(path, new.source, known=drafts.read_draft(path).digest)
        response.headers["location"] = f"/api/v1/issues/{path.stem}"
        return self.get(path.stem)

    def get(self, issue: Slug) -> IssueDetails:
        """Return an issue: its source, its state and its books."""
        with self._database.reading() as connection:
            found = next(
                (one for one in directory.entries(connection, self._settings) if one.slug == issue), None
            )
            if found is None:
                raise HTTPException(404, _NONE)
            books = None if found.issue_id is None else running_books(connection, found.issue_id).as_dict()
        path = directory.sources(self._settings).get(issue)
        draft = None if path is None else drafts.read_draft(path)
        return IssueDetails(
            **_entry(found).model_dump(),
            source=draft and draft.text,
            digest=draft and draft.digest,
            books=books,
        )

    def update(self, issue: Slug, new: IssueText) -> IssueDetails:
        """Replace the source of an issue. Answers 409 if it was changed since you read it."""
        drafts.save_draft(self._source(issue), new.source, known=new.digest)
        return self.get(issue)

    def lint(self, issue: Slug) -> Report:
        """Check an issue; `findings` lists the errors and warnings with their places."""
        return viewing.preview(self._settings, self._source(issue)).report.as_dict()

    def preview(self, issue: Slug) -> Previewed:
        """Render an issue for a reader who has every field. Its links lead nowhere."""
        shown = viewing.preview(self._settings, self._source(issue))
        return Previewed(
            subject=shown.subject,
            preheader=shown.preheader,
            html=shown.rendered.source,
            text=shown.rendered.text,
        )

    def books(self, issue: Slug) -> dict[str, int]:
        """Return the number of deliveries in each state. They always add up to the audience."""
        with self._database.reading() as connection:
            return running_books(connection, self._queued(connection, issue).id).as_dict()

    def deliveries(
        self,
        issue: Slug,
        state: DeliveryState | None = None,
        cursor: Cursor = "",
        limit: Limit = 50,
    ) -> DeliveryPage:
        """List the deliveries of a queued issue by subscriber id."""
        with self._database.reading() as connection:
            queued = self._queued(connection, issue)
            found = listing.page(connection, queued.id, state, after=int(cursor or 0), limit=limit + 1)
        following = str(found[limit - 1].subscriber_id) if len(found) > limit else None
        items = [
            DeliveryDetails(
                subscriber_id=one.subscriber_id,
                address=one.address,
                state=one.state.value,
                attempts=one.attempts,
                changed_at=one.changed_at,
                next_at=one.due_at,
                answer=one.answer or None,
                bounce_class=one.bounce_class,
            )
            for one in found[:limit]
        ]
        return DeliveryPage(items=items, next=following)

    def schedule(self, issue: Slug, wanted: Schedule) -> Planned:
        """Send an issue at a time, with the content that it has now. A second request replaces the first."""
        path = self._source(issue)
        edition = editions.build(self._settings, path)
        plan = release.check_release(
            self._settings, self._database, path, edition, wanted.segment, lint=wanted.lint
        )
        at, segment = datetime.now(UTC), wanted.segment
        with self._database.transaction() as connection:
            if wanted.at is not None:
                due_at = wanted.at.astimezone(UTC)
                made = schedules.add(
                    connection, edition, source_path=str(path), segment=segment, due_at=due_at, zone="", at=at
                )
            else:
                assert wanted.local_time is not None
                condition = enqueueing.audience_condition(self._settings, segment)
                made = local_time.add(
                    connection, edition, source_path=str(path), segment=segment, wall=wanted.local_time,
                    zone=wanted.timezone, at=at, condition=condition,
                )  # fmt: skip
        return Planned(
            slug=made.slug,
            at=made.due_at,
            local_time=made.wall,
            segment=made.segment,
            audience=plan.audience,
        )

    def unschedule(self, issue: Slug) -> None:
        """Remove the schedule of an issue."""
        with self._database.transaction() as connection:
            if issue not in {one.slug for one in schedules.scheduled(connection)}:
                raise HTTPException(404, "This issue is not scheduled.")
            schedules.cancel(connection, issue)

    def send(self, request: Request, issue: Slug, idempotency_key: IdempotencyKey, wanted: Sending) -> Queued:
        """Queue an issue for its audience; `mailer worker` sends it. Nobody gets it twice."""
        token: Token = request.state.token
        asked = requests.digest(f"send {issue}", wanted.model_dump())

        def answered() -> dict[str, Any] | None:
            with self._database.reading() as connection:
                return requests.answered(connection, token.id, idempotency_key, asked)

        known = answered()
        if known is None:
            try:
                known = self._enqueue(issue, wanted, token, idempotency_key, asked)
            except (RefusedError, IntegrityError):
                # A simultaneous request with this key may have been faster; then this one repeats it.
                known = answered()
                if known is None:
                    raise
        return Queued(**known)

    def _enqueue(self, issue: str, wanted: Sending, token: Token, key: str, asked: str) -> dict[str, Any]:
        """Queue an issue and store the answer in one transaction; return it."""
        path = self._source(issue)
        edition = editions.build(self._settings, path)
        release.check_release(self._settings, self._database, path, edition, wanted.segment, lint=wanted.lint)
        at = datetime.now(UTC)
        answer: dict[str, Any] = {}

        def remember(connection: Connection, queued: QueuedIssue) -> None:
            if queued.created_at != at:
                raise RefusedError(f"{issue} is queued already", remedy="correct it with: mailer amend")
            audience = running_books(connection, queued.id).audience
            answer.update(slug=queued.slug, state=queued.state.value, audience=audience)
            requests.remember(connection, token.id, key, asked, dict(answer), at=at)

        enqueueing.enqueue(
            self._settings, self._database, edition, path, wanted.segment, at=at, also=remember
        )
        return answer

    def _source(self, issue: str) -> Path:
        """Return the file of an issue; a name that is not in the folder leads nowhere."""
        path = directory.sources(self._settings).get(issue)
        if path is None:
            raise HTTPException(404, _NONE)
        return path

    def _queued(self, connection: Connection, issue: str) -> QueuedIssue:
        queued = issues.find(connection, issue)
        if queued is None:
            raise HTTPException(404, "This issue was not queued.")
        return queued


def _entry(one: Entry) -> IssueEntry:
    return IssueEntry(slug=one.slug, title=one.title, state=one.state, at=one.at, segment=one.segment)
