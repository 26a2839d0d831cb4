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
from sqlalchemy import Connection, Select, func, select, text
from starlette.responses import Response

from mailer.api_tokens import Scope
from mailer.audience.counting import status_counts
from mailer.cluster import chores, members
from mailer.database.engine import Database
from mailer.database.tables import (
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
        with self._database.reading() as connection:
            metrics = [*_gauges(connection, at), *_histograms(connection)]
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


def _gauges(connection: Connection, at: datetime) -> Iterator[GaugeMetricFamily]:
    statuses = status_counts(connection)
    yield _by(
        "subscribers", "Subscribers.", "status", {one: statuses.get(one, 0) for one in SubscriberStatus}
    )
    yield from _issues(connection)
    yield from _letters(connection, at)
    reports = select(StoredReport.c.kind, StoredReport.c.outcome, func.count())
    yield _labelled(
        "reports",
        "Stored bounces and complaints.",
        ("kind", "outcome"),
        {
            (kind, outcome): number
            for kind, outcome, number in connection.execute(
                reports.group_by(StoredReport.c.kind, StoredReport.c.outcome)
            )
        },
    )
    yield _labelled(
        "refusals",
        "Deliveries of issues that are not finished, after a refusal, by mailbox provider.",
        ("provider", "class", "state"),
        _refusals(connection),
    )
    hooks = select(WebhookDelivery.c.state, func.count()).group_by(WebhookDelivery.c.state)
    yield _by("webhook_deliveries", "Webhook deliveries.", "state", _numbers(connection, hooks))
    yield _one("workers", "Workers that are running.", len(members.living(connection)))
    yield _one("runs", "Processes that are sending an issue.", len(runs.sending(connection)))
    counted_at = statistics.counted_at(connection)
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
        {task: at.timestamp() for task, at in chores.last_done(connection).items()},
    )


def _histograms(connection: Connection) -> Iterator[HistogramMetricFamily]:
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
        for one in latencies.histograms(connection, measure):
            values = {"relay": one.relay, "provider": one.provider, "class": one.kind, "kind": one.kind}
            family.add_metric([values[label] for label in labels], one.cumulative, one.sum_seconds)
        yield family


def _refusals(connection: Connection) -> Counter[tuple[str, ...]]:
    """Count along the partial indexes of what failed or waits, which are few of all deliveries."""
    unfinished = select(StoredIssue.c.id).where(StoredIssue.c.state.in_(_OPEN))
    found: Counter[tuple[str, ...]] = Counter()
    for condition in ("state = 'failed'", WAITS):
        counted = (
            select(Subscriber.c.domain, Delivery.c.bounce_class, Delivery.c.state, func.count())
            .join(Subscriber, Subscriber.c.id == Delivery.c.subscriber_id)
            .where(Delivery.c.issue_id.in_(unfinished), text(condition), Delivery.c.bounce_class.is_not(None))
            .group_by(Subscriber.c.domain, Delivery.c.bounce_class, Delivery.c.state)
        )
        for domain, bounce_class, state, number in connection.execute(counted):
            found[known_provider(domain), bounce_class or "", state] += number
    return found


def _issues(connection: Connection) -> Iterator[GaugeMetricFamily]:
    states = _numbers(connection, select(StoredIssue.c.state, func.count()).group_by(StoredIssue.c.state))
    waiting = schedule.scheduled(connection)
    numbers = {state.value: states.get(state.value, 0) for state in IssueState}
    numbers["scheduled"] = sum(not one.missed for one in waiting)
    numbers["missed"] = sum(one.missed for one in waiting)
    yield _by("issues", "Issues; missed ones were scheduled and not sent on time.", "state", numbers)
    deliveries: dict[tuple[str, ...], float] = {}
    for issue_id, slug in connection.execute(
        select(StoredIssue.c.id, StoredIssue.c.slug).where(StoredIssue.c.state.in_(_OPEN))
    ):
        books = running_books(connection, issue_id)
        deliveries |= {(slug, state.value): getattr(books, state) for state in DeliveryState}
    yield _labelled(
        "deliveries", "Deliveries of issues that are not finished.", ("issue", "state"), deliveries
    )


def _letters(connection: Connection, at: datetime) -> Iterator[GaugeMetricFamily]:
    """Letters have no backlog in health: what is due is sent within seconds."""
    waiting = select(WaitingLetter.c.kind, func.count()).group_by(WaitingLetter.c.kind)
    yield _by("letters", "Letters that wait, by kind.", "kind", _numbers(connection, waiting))
    first = connection.scalar(select(func.min(WaitingLetter.c.due_at, type_=WaitingLetter.c.due_at.type)))
    late = 0.0 if first is None else max(0.0, (at - first).total_seconds())
    yield _one("letters_overdue_seconds", "How long the oldest letter that is due has waited.", late)


def _numbers(connection: Connection, counted: Select[str, int]) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute(counted)}


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
