"""The output of `mailer bounces report`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from mailer.cli.charts import bars
from mailer.printable import counted
from mailer.replies import POLICY, BounceClass
from mailer.reports.bounces import BounceCount, BounceSummary, IssueCount

_MOST_PROVIDERS: Final = 10
_MOST_ISSUES: Final = 12


def shown_report(report: BounceSummary) -> Iterator[str]:
    """Yield the lines: the sum, a chart each by class, provider and issue, alerts, and the reports."""
    failed = sum(issue.failed for issue in report.issues)
    complaints = sum(issue.complaints for issue in report.issues)
    audience = sum(issue.audience for issue in report.issues)
    share = f" ({_percent(failed, audience)})" if audience else ""
    yield (
        f"{failed:,} of {counted(audience, 'delivery', 'deliveries')} failed, later bounces included{share}; "
        f"{counted(complaints, 'complaint')}."
    )
    if failed:
        yield from ("", "by class", *bars(_by_class(report.by_issue)))
        yield from ("", "by provider", *bars(_by_provider(report.by_provider)))
        yield from ("", "by issue", *bars(_by_issue(report.issues)))
    if report.alerts:
        yield from ("", "alerts")
        yield from (f"  {alert.at:%Y-%m-%d %H:%M}  {alert.text}" for alert in report.alerts)
    yield ""
    for title, counts in (
        ("reports", report.by_kind),
        ("outcomes", report.by_outcome),
        ("suppressions", report.suppressions),
    ):
        yield f"{title}: " + (
            ", ".join(f"{name or '-'} {number:,}" for name, number in counts.items()) or "none"
        )


def _by_class(counts: Sequence[BounceCount]) -> Iterator[tuple[str, int, str]]:
    sums: Counter[str] = Counter()
    for count in counts:
        sums[count.bounce_class] += count.deliveries
    for name, number in sums.most_common():
        yield name, number, f"{_percent(number, sums.total()):>6}  {_consequence(name)}"


def _by_provider(counts: Sequence[BounceCount]) -> Iterator[tuple[str, int, str]]:
    sums: Counter[str] = Counter()
    classes: dict[str, Counter[str]] = {}
    for count in counts:
        sums[count.name] += count.deliveries
        classes.setdefault(count.name, Counter())[count.bounce_class] += count.deliveries
    for name, number in sums.most_common(_MOST_PROVIDERS):
        [(most, times)] = classes[name].most_common(1)
        yield name, number, f"{_percent(times, number):>6}  {most}"
    if others := sums.total() - sum(number for _, number in sums.most_common(_MOST_PROVIDERS)):
        yield counted(len(sums) - _MOST_PROVIDERS, "other"), others, ""


def _by_issue(issues: Sequence[IssueCount]) -> Iterator[tuple[str, int, str]]:
    for issue in issues[-_MOST_ISSUES:]:
        notes = [f"{_percent(issue.failed, issue.audience):>6}"] if issue.audience else []
        if issue.complaints:
            share = f" ({_percent(issue.complaints, issue.audience)})" if issue.audience else ""
            notes.append(f"complaints {issue.complaints:,}{share}")
        yield issue.issue, issue.failed, "  ".join(notes)


def _percent(part: int, whole: int) -> str:
    share = 100.0 * part / whole
    return f"{share:.{2 if 0 < share < 1 else 1 if 0 < share < 10 else 0}f}%"


def _consequence(name: str) -> str:
    """Return a word for the effect on the subscriber."""
    policy = POLICY[BounceClass(name)]
    if policy.hard:
        return "suppressed"
    return "counted" if policy.weight else "not counted"
