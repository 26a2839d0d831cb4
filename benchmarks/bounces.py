"""Bounces and SMTP replies read right: who bounced, hard or soft, class, complaints; speed."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from typing import Any, Final

from flufl.bounce import all_failures

from benchmarks import Figure
from benchmarks.bombs import BOMBS
from mailer.bounces.reading.report import BounceReport, RecipientReport, ReportKind, parse_report
from mailer.replies import judge

CORPUS: Final = Path("../shared/corpus/bounces")
REPLIES: Final = Path("../shared/corpus/replies.jsonl")
_FEEDBACK: Final = {
    "abuse": ReportKind.COMPLAINT,
    "fraud": ReportKind.COMPLAINT,
    "opt-out": ReportKind.OPT_OUT,
}
_READ_KINDS: Final = ("bounce", "delivered", "complaint", "autoreply")


@dataclass(slots=True)
class Score:
    """Counts over labelled messages; each miss names the file, the field, and both values."""

    right: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    misses: list[dict[str, Any]] = field(default_factory=list)

    def add(self, question: str, good: bool, row: dict[str, Any], expected: object, got: object) -> None:
        """Count one answer."""
        self.asked[question] = self.asked.get(question, 0) + 1
        self.right[question] = self.right.get(question, 0) + good
        if not good:
            self.misses.append({"file": row["file"], "missed": question, "expected": expected, "got": got})

    def share(self, question: str) -> float:
        """Return the percentage answered right; 100 where nothing was asked."""
        asked = self.asked.get(question, 0)
        return 100.0 * self.right.get(question, 0) / asked if asked else 100.0


def add_options(parser: ArgumentParser) -> None:
    """Add the paths of the labels and the messages."""
    parser.add_argument(
        "--labels", type=Path, default=CORPUS / "labels.jsonl", help="labels of the messages, JSON Lines"
    )
    parser.add_argument("--replies", type=Path, default=REPLIES, help="labelled SMTP replies, JSON Lines")
    parser.add_argument("--messages", type=Path, default=CORPUS / "mails", help="directory of the messages")


def measure(options: Namespace) -> Iterator[Figure]:
    """Yield the figures for one labelled corpus; rows that were missed go to stderr as JSON lines."""
    rows = read_labels(options.labels)
    messages = {row["file"]: (options.messages / row["file"]).read_bytes() for row in rows}
    score = score_rows(rows, messages)
    for miss in score.misses:
        print(json.dumps(miss, ensure_ascii=False), file=sys.stderr)
    for name, question, bar in (
        ("recipients found", "recipients", 98.0),
        ("hard or soft right", "hardness", 97.0),
        ("class right", "class", 90.0),
        ("complaints recognised", "complaint", 100.0),
        ("not a bounce, not taken for one", "not a bounce", 100.0),
    ):
        share = score.share(question)
        yield Figure("bounces", name, share, bar=f"≥ {bar:g}", holds=share >= bar, unit="%")
    for name, question in (("foreign address", "no foreign"), ("soft taken for hard", "soft kept")):
        share = 100.0 - score.share(question)
        yield Figure("bounces", name, share, bar="≤ 1", holds=share <= 1.0, unit="%")
    yield from _measure_replies(options.replies)
    ours = per_second(parse_report, list(messages.values()))
    peer = per_second(_flufl, list(messages.values()))
    yield Figure(
        "bounces", "messages a second, one core", ours, peer, ours / peer, "≥ 1000/s", ours >= 1000.0, "1/s"
    )
    yield from _slowest_bombs()


def _slowest_bombs() -> Iterator[Figure]:
    """Yield the processor time of the 20 messages that take longest of those made to break a parser."""
    took: dict[str, float] = {}
    for name, build in BOMBS.items():
        raw = build()
        start = time.process_time()
        parse_report(raw)
        took[name] = time.process_time() - start
    for name, seconds in sorted(took.items(), key=lambda item: -item[1])[:20]:
        yield Figure("bounces", f"bomb: {name}", seconds, bar="< 1 s", holds=seconds < 1.0, unit="s")


def _measure_replies(path: Path) -> Iterator[Figure]:
    rows = read_labels(path)
    score = score_replies(rows)
    for miss in score.misses:
        print(json.dumps(miss, ensure_ascii=False), file=sys.stderr)
    for name, question, bar in (
        ("replies: hard or soft right", "hardness", 98.0),
        ("replies: class right", "class", 95.0),
    ):
        share = score.share(question)
        yield Figure("bounces", name, share, bar=f"≥ {bar:g}", holds=share >= bar, unit="%")
    wrong = 100.0 - score.share("soft kept")
    yield Figure("bounces", "replies: soft taken for hard", wrong, bar="≤ 0", holds=wrong == 0.0, unit="%")
    took = microseconds_per_reply(rows)
    yield Figure(
        "bounces", "microseconds to judge a new reply", took, bar="≤ 500", holds=took <= 500.0, unit="µs"
    )


def score_replies(rows: list[dict[str, Any]]) -> Score:
    """Return how well the replies are judged. `hard` null means that either is right."""
    score = Score()
    for number, row in enumerate(rows, 1):
        verdict = judge(
            row["code"], row["enhanced"], row["text"], provider=row["host"], command=row["command"]
        )
        row = {**row, "file": f"reply {number}: {row['code']} {row['text'][:120]}"}
        if row["hard"] is not None:
            score.add("hardness", verdict.hard == row["hard"], row, row["hard"], verdict.hard)
            if not row["hard"]:
                score.add("soft kept", not verdict.hard, row, "soft", verdict.bounce_class)
        score.add("class", verdict.bounce_class in row["classes"], row, row["classes"], verdict.bounce_class)
    return score


def microseconds_per_reply(rows: list[dict[str, Any]]) -> float:
    """Return the processor time to judge a reply that was not seen before."""
    best = float("inf")
    for turn in range(3):
        start = time.process_time()
        for number, row in enumerate(rows):
            text = f"{row['text']} q{turn}x{number}"
            judge(row["code"], row["enhanced"], text, provider=row["host"], command=row["command"])
        best = min(best, time.process_time() - start)
    return 1e6 * best / len(rows)


def read_labels(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a labels file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def score_rows(rows: list[dict[str, Any]], messages: dict[str, bytes]) -> Score:
    """Score how well the messages are read."""
    score = Score()
    for row in rows:
        report = parse_report(messages[row["file"]])
        if row["kind"] == "autoreply":
            score.add("not a bounce", report.kind is ReportKind.AUTO_REPLY, row, row["kind"], report.kind)
        elif row["kind"] == "delivered":
            score.add("not a bounce", report.kind is ReportKind.DELIVERED, row, row["kind"], report.kind)
        elif row["kind"] == "complaint":
            feedback = (row["facts"] or [{}])[0].get("feedback_type") or "abuse"
            wanted = _FEEDBACK.get(feedback, ReportKind.ARF_OTHER)
            score.add("complaint", report.kind is wanted, row, wanted, report.kind)
        if row["kind"] in _READ_KINDS and row["recipients"]:
            _score_recipients(score, row, report)
        if row["kind"] == "bounce":
            _score_verdicts(score, row, report)
    return score


def _score_recipients(score: Score, row: dict[str, Any], report: BounceReport) -> None:
    accepted = {address.lower() for address in [*row["recipients"], *row["accept_also"]]}
    wanted = {address.lower() for address in row["recipients"]}
    got = {address for one in report.recipients for address in _addresses(one)}
    complete = wanted <= got or (len(wanted) == 1 and bool(accepted & got))
    score.add("recipients", complete, row, sorted(wanted), sorted(got))
    foreign = [one.address for one in report.recipients if not _addresses(one) & accepted]
    score.add("no foreign", not foreign, row, sorted(accepted), foreign)


def _score_verdicts(score: Score, row: dict[str, Any], report: BounceReport) -> None:
    by_address = {address: one for one in report.recipients for address in _addresses(one)}
    for fact in row["facts"]:
        one = by_address.get(fact["recipient"].lower())
        if one is None and len(row["facts"]) == 1 and report.recipients:
            one = report.recipients[0]
        verdict = one.verdict if one else None
        hard = "hard" if verdict and verdict.hard else "soft" if verdict else "none"
        bounce_class = verdict.bounce_class if verdict else None
        said = verdict.text[:120] if verdict else ""
        if not row["hardness_disputed"] and fact["hard_or_soft"] in ("hard", "soft"):
            score.add("hardness", hard == fact["hard_or_soft"], row, fact["hard_or_soft"], f"{hard}: {said}")
            if fact["hard_or_soft"] == "soft":
                score.add("soft kept", hard != "hard", row, "soft", f"{hard}: {said}")
        if not row["class_disputed"] and fact["bounce_class"]:
            right = bounce_class == fact["bounce_class"]
            score.add("class", right, row, fact["bounce_class"], f"{bounce_class}: {said}")


def _addresses(one: RecipientReport) -> set[str]:
    return {one.address.lower(), one.original_address.lower()}


def per_second(read: Callable[[bytes], object], messages: list[bytes], seconds: float = 1.0) -> float:
    """Return how many messages `read` handles per second of CPU time, the best of three rounds.

    Each round takes `seconds` at least. Processor time, so that what else runs on the machine does not count.
    """
    best = 0.0
    for _ in range(3):
        count = 0
        start = time.process_time()
        while (took := time.process_time() - start) < seconds:
            for message in messages:
                read(message)
            count += len(messages)
        best = max(best, count / took)
    return best


def _flufl(raw: bytes) -> object:
    """Return the result of flufl.bounce, or nothing for messages on which it raises."""
    try:
        return all_failures(message_from_bytes(raw))
    except Exception:
        return None
