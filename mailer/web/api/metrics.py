"""The route for monitoring: gauges and histograms in the text format of Prometheus.

Every process that serves the API answers the same, since all numbers are read from the database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Select, func, select, text
from sqlalchemy.orm import Session
from starlette.responses import Response

from mailer.api_tokens import Scope
from mailer.audience.counting import status_counts
from mailer.cluster import chores, members
from mailer.database.models import (
    WAITS,
    Delivery,
    DeliveryState,
    IssueState,
    StoredIssue,
    StoredReport,
    Subscriber,
    SubscriberStatus,
    WaitingLetter,
    WebhookDelivery,
)
from mailer.database.session import Database
from mailer.delivery import latencies, runs, schedule
from mailer.delivery.books import running_books
from mailer.replies.mailbox_hosts import known_provider
from mailer.reports import statistics

_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_OPEN: Final = (IssueState.SENDING.value, IssueState.PAUSED.value)


class MetricsRoutes:
    """The route `/metrics`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def router(self, may: Callable[[Scope], Any]) -> APIRouter:
        """Return the route; `may` returns the dependency that checks for a scope."""
        router = APIRouter(tags=["metrics"])
        router.add_api_route(
            "/metrics",
            self.metrics,
            methods=["GET"],
            dependencies=[may(Scope.READ_METRICS)],
            response_class=Response,
            responses={200: {"content": {"text/plain": {}}, "description": "Gauges and histograms"}},
        )
        return router

    def metrics(self) -> Response:
        """Return numbers about subscribers, issues, letters, reports, workers, webhooks, tasks and times."""
        at = datetime.now(UTC)
        with self._database.reading() as session:
            metrics = [*_gauges(session, at), *_histograms(session)]
        registry = CollectorRegistry()
        registry.register(_Counted(metrics))
        return Response(generate_latest(registry), headers={"content-type": _CONTENT_TYPE})


class _Counted(Collector):
    """Metrics that were counted already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Implement `prometheus_client.registry.Collector`."""
        return iter(self._metrics)


def _gauges(session: Session, at: datetime) -> Iterator[GaugeMetricFamily]:
    statuses = status_counts(session)
    yield _by(
        "subscribers", "Subscribers.", "status", {one: statuses.get(one, 0) for one in SubscriberStatus}
    )
    yield from _issues(session)
    yield from _letters(session, at)
    reports = select(StoredReport.kind, StoredReport.outcome, func.count())
    yield _labelled(
        "reports",
        "Stored bounces and complaints.",
        ("kind", "outcome"),
        {
            (kind, outcome): number
            for kind, outcome, number in session.execute(
                reports.group_by(StoredReport.kind, StoredReport.outcome)
            )
        },
    )
    yield _labelled(
        "refusals",
        "Deliveries of issues that are not finished, after a refusal, by mailbox provider.",
        ("provider", "class", "state"),
        _refusals(session),
    )
    hooks = select(WebhookDelivery.state, func.count()).group_by(WebhookDelivery.state)
    yield _by("webhook_deliveries", "Webhook deliveries.", "state", _numbers(session, hooks))
    yield _one("workers", "Workers that are running.", len(members.living(session)))
    yield _one("runs", "Processes that are sending an issue.", len(runs.sending(session)))
    counted_at = statistics.counted_at(session)
    if counted_at is not None:
        yield _one(
            "statistics_counted_timestamp_seconds",
            "When the statistics were last brought up to date, in Unix time.",
            counted_at.timestamp(),
        )
    yield _by(
        "task_success_timestamp_seconds",
        "When each periodic task last succeeded, in Unix time.",
        "task",
        {task: at.timestamp() for task, at in chores.last_done(session).items()},
    )


def _histograms(session: Session) -> Iterator[HistogramMetricFamily]:
    for measure, help_text, labels in (
        (latencies.CONNECT, "From dialling a relay until it lets us send.", ("relay",)),
        (
            latencies.REPLY,
            "From the end of a message until the relay's reply.",
            ("relay", "provider", "class"),
        ),
        (
            latencies.ACCEPT,
            "From the queueing of an issue or a letter until the relay accepted the message.",
            ("provider", "kind"),
        ),
    ):
        family = HistogramMetricFamily(f"mailer_{measure}_seconds", help_text, labels=labels)
        for one in latencies.histograms(session, measure):
            values = {"relay": one.relay, "provider": one.provider, "class": one.kind, "kind": one.kind}
            family.add_metric([values[label] for label in labels], one.cumulative, one.sum_seconds)
        yield family


def _refusals(session: Session) -> Counter[tuple[str, ...]]:
    """Count along the partial indexes of what failed or waits, which are few of all deliveries."""
    unfinished = select(StoredIssue.id).where(StoredIssue.state.in_(_OPEN))
    found: Counter[tuple[str, ...]] = Counter()
    for condition in ("state = 'failed'", WAITS):
        counted = (
            select(Subscriber.domain, Delivery.bounce_class, Delivery.state, func.count())
            .join(Subscriber, Subscriber.id == Delivery.subscriber_id)
            .where(Delivery.issue_id.in_(unfinished), text(condition), Delivery.bounce_class.is_not(None))
            .group_by(Subscriber.domain, Delivery.bounce_class, Delivery.state)
        )
        for domain, bounce_class, state, number in session.execute(counted):
            found[known_provider(domain), bounce_class or "", state] += number
    return found


def _issues(session: Session) -> Iterator[GaugeMetricFamily]:
    states = _numbers(session, select(StoredIssue.state, func.count()).group_by(StoredIssue.state))
    waiting = schedule.scheduled(session)
    numbers = {state.value: states.get(state.value, 0) for state in IssueState}
    numbers["scheduled"] = sum(not one.missed for one in waiting)
    numbers["missed"] = sum(one.missed for one in waiting)
    yield _by("issues", "Issues; missed ones were scheduled and not sent on time.", "state", numbers)
    deliveries: dict[tuple[str, ...], float] = {}
    for issue_id, slug in session.execute(
        select(StoredIssue.id, StoredIssue.slug).where(StoredIssue.state.in_(_OPEN))
    ):
        books = running_books(session, issue_id)
        deliveries |= {(slug, state.value): getattr(books, state) for state in DeliveryState}
    yield _labelled(
        "deliveries", "Deliveries of issues that are not finished.", ("issue", "state"), deliveries
    )


def _letters(session: Session, at: datetime) -> Iterator[GaugeMetricFamily]:
    """Letters have no backlog in health: what is due is sent within seconds."""
    waiting = select(WaitingLetter.kind, func.count()).group_by(WaitingLetter.kind)
    yield _by("letters", "Letters that wait, by kind.", "kind", _numbers(session, waiting))
    first = session.scalar(select(func.min(WaitingLetter.due_at, type_=WaitingLetter.due_at.type)))
    late = 0.0 if first is None else max(0.0, (at - first).total_seconds())
    yield _one("letters_overdue_seconds", "How long the oldest letter that is due has waited.", late)


def _numbers(session: Session, counted: Select[str, int]) -> dict[str, int]:
    return {row[0]: row[1] for row in session.execute(counted)}


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"mailer_{name}", text, value=value)


def _by(name: str, text: str, label: str, numbers: Mapping[Any, float]) -> GaugeMetricFamily:
    return _labelled(name, text, (label,), {(str(key),): number for key, number in numbers.items()})


def _labelled(
    name: str, text: str, labels: tuple[str, ...], numbers: Mapping[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"mailer_{name}", text, labels=labels)
    for values, number in numbers.items():
        family.add_metric(list(values), number)
    return family
