"""Importing subscribers from a file, in one transaction, with a reason for each rejected row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, insert, select, update

from mailer.address import Address, parse_address, shown
from mailer.audience.fields import check_attributes, check_name, check_tags
from mailer.audience.ledger import insert_without_lines, write_first_lines
from mailer.audience.suppression import erased_key
from mailer.audience.transfer.json_lines import Candidate
from mailer.audience.transfer.opt_outs import OptOut, record_opt_outs
from mailer.audience.transfer.presets import PLAIN, Out, Preset
from mailer.audience.transfer.reading import open_source
from mailer.audience.transfer.rejects import Rejected, rejects
from mailer.audience.transitions import Enrolment, Origin
from mailer.database.engine import Database
from mailer.database.rows import refresh_statistics
from mailer.database.tables import (
    Consent,
    Import,
    Subscriber,
    SubscriberStatus,
    SubscriberTag,
    Suppression,
)
from mailer.errors import AddressError, RefusedError
from mailer.printable import counted

_BATCH: Final = 5_000
_ALIVE: Final = (SubscriberStatus.ACTIVE.value, SubscriberStatus.PENDING.value)
_EXAMPLES: Final = 10
_EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
"""An earlier sign-up date is a mistake: email newsletters are younger."""
_COUNTS: Final = (
    "added", "updated", "unchanged", "kept_out", "opted_out", "taken_off", "left_alone", "rejected",
)  # fmt: skip


@dataclass(slots=True)
class ImportReport:
    """The result of an import; `id` is None for a dry run."""

    id: int | None = None
    encoding: str = ""
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    kept_out: int = 0
    """Unsubscribed, bounced, complained or erased here, or never confirmed there; not added."""
    opted_out: int = 0
    """Unknown here, and recorded as unsubscribed, bounced or complained, as in the file."""
    taken_off: int = 0
    """Active here until now, and unsubscribed because of the file."""
    left_alone: int = 0
    """Opted out in the file, but signed up here themselves later."""
    rejected: int = 0
    dated: int = 0
    """How many of those added came with their sign-up date."""
    examples: list[Rejected] = field(default_factory=list)
    """The first rejected rows; the file of rejected rows has them all."""
    changes: list[str] = field(default_factory=list)
    """The first changes as a diff: `+` for a new subscriber, `-` and `+` for before and after."""


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far an import has come: rows, octets read, and octets of the file."""

    rows: int
    read: int
    octets: int


class _CountedError(Exception):
    """Raised to roll back a dry run."""


def import_file(
    database: Database,
    path: Path,
    *,
    secret: bytes,
    at: datetime,
    preset: Preset = PLAIN,
    encoding: str = "",
    tags: Sequence[str] = (),
    rejected_path: Path | None = None,
    dry_run: bool = False,
    strict: bool = False,
    progress: Callable[[ImportProgress], None] = lambda progress: None,
) -> ImportReport:
    """Add the subscribers of a file, or update known ones, in one transaction.

    Common column names are recognised, and every other column becomes an attribute, unless the `preset`
    gives it another meaning. The encoding is detected unless `encoding` is given. Known subscribers get
    the `tags` too. Rejected rows go to `rejected_path` with line and reason; with `strict`, one rejected
    row refuses the whole import. `secret` is the oldest of `Database.secrets()`. Raises `SourceError` for
    a file that is not such a table.
    """
    report = ImportReport()
    try:
        with (
            open_source(path, preset, encoding=encoding) as source,
            rejects(None if dry_run else rejected_path) as reject,
        ):
            report.encoding = source.encoding
            with database.transaction() as connection:
                run = _ImportRun(connection, report, secret, at, tags, reject)
                run.begin(path)
                taken = 0
                for rows in _batches(source.rows):
                    run.take(rows)
                    taken += len(rows)
                    progress(ImportProgress(taken, source.read(), source.octets))
                run.end()
                if strict and report.rejected:
                    raise RefusedError(
                        f"{path}: {counted(report.rejected, 'row')} would be rejected; nothing was imported",
                        remedy="correct the file, or import without --strict",
                    )
                if dry_run:
                    report.id = None
                    raise _CountedError
    except _CountedError:
        return report
    return report


@dataclass(frozen=True, slots=True)
class _Valid:
    line: int
    address: Address
    name: str
    attributes: dict[str, Any]
    tags: tuple[str, ...]
    joined_at: datetime | None


class _ImportRun:
    """One import under way."""

    def __init__(
        self,
        connection: Connection,
        report: ImportReport,
        secret: bytes,
        at: datetime,
        tags: Sequence[str],
        reject: Callable[[Rejected], None],
    ) -> None:
        self._connection = connection
        self._report = report
        self._secret = secret
        self._at = at
        self._tags = check_tags(tags)
        self._reject_row = reject
        self._newest_before = 0
        self._any_erased = False
        self._missing_tags: list[tuple[int, str]] = []

    def begin(self, path: Path) -> None:
        stored = insert(Import).values(at=self._at, source=str(path)).returning(Import.c.id)
        self._id = self._report.id = self._connection.execute(stored).scalar_one()
        self._newest_before = self._connection.scalar(select(func.max(Subscriber.c.id))) or 0
        erased = (
            select(Suppression.c.address_key).where(Suppression.c.address_key.startswith("hmac:")).limit(1)
        )
        self._any_erased = self._connection.execute(erased).first() is not None

    def take(self, rows: Sequence[Candidate]) -> None:
        """Import a batch of rows in a fixed number of statements."""
        wanted = self._without_opt_outs(rows)
        known = self._known(wanted)
        tagged = self._tags_of([row.id for row in known.values()], wanted.values())
        suppressed = self._suppressed([key for key in wanted if key not in known])
        new: list[_Valid] = []
        changed: list[dict[str, Any]] = []
        for key, valid in wanted.items():
            stored = known.get(key)
            if stored is None:
                if key in suppressed:
                    self._report.kept_out += 1
                else:
                    new.append(valid)
            elif stored.id > self._newest_before:
                self._reject_repeated(valid)
            elif stored.status not in _ALIVE:
                self._report.kept_out += 1
            else:
                self._bring_up_to_date(stored, valid, changed, tagged)
        self._write(new, changed)
        self._tag(new)

    def _without_opt_outs(self, rows: Sequence[Candidate]) -> dict[str, _Valid]:
        """Record the opt-outs of a batch; return its other valid rows by address key."""
        wanted: dict[str, _Valid] = {}
        opt_outs: dict[str, OptOut] = {}
        for row in rows:
            try:
                if row.out:
                    self._put_out(row.address, row.out, opt_outs)
                    continue
                valid = _checked(row)
            except AddressError as error:
                self._reject(row.line, error.message, row.address)
                continue
            key = valid.address.key
            if key in wanted:
                self._reject_repeated(valid)
            else:
                wanted[key] = valid
        if opt_outs:
            self._record(opt_outs)
            for key in opt_outs.keys() & wanted.keys():
                self._reject_repeated(wanted.pop(key))
        return wanted

    def _known(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the rows of subscribers who exist already, by address key."""
        columns = (
            Subscriber.c.id,
            Subscriber.c.address_key,
            Subscriber.c.status,
            Subscriber.c.name,
            Subscriber.c.attributes,
        )
        found = self._connection.execute(select(*columns).where(Subscriber.c.address_key.in_(keys)))
        return {row.address_key: row for row in found}

    def end(self) -> None:
        """Write the ledger lines of everyone who was added, and store the counts."""
        write_first_lines(self._connection, self._id, after_id=self._newest_before, at=self._at)
        counts = {name: getattr(self._report, name) for name in _COUNTS}
        self._connection.execute(update(Import).where(Import.c.id == self._id).values(counts))
        refresh_statistics(self._connection, Subscriber, Consent, SubscriberTag)

    def _put_out(self, written: str, out: Out, opt_outs: dict[str, OptOut]) -> None:
        """Collect an opt-out, which counts even if the rest of the row is invalid."""
        address = parse_address(written)
        if out.status is None or address.key in opt_outs:
            self._report.kept_out += 1
        else:
            opt_outs[address.key] = OptOut(address, out.status, out.note, out.at)

    def _record(self, opt_outs: Mapping[str, OptOut]) -> None:
        done = record_opt_outs(
            self._connection,
            opt_outs,
            barred=self._suppressed,
            import_id=self._id,
            newest_before=self._newest_before,
            at=self._at,
        )
        self._report.opted_out += len(done.new)
        self._report.taken_off += len(done.taken_off)
        self._report.left_alone += done.left_alone
        self._report.kept_out += done.kept_out
        self._report.added -= done.withdrawn
        for one in done.taken_off[:_EXAMPLES]:
            self._note(f"- {_line(one.address.key, SubscriberStatus.ACTIVE.value, {}, [])}")
            self._note(f"+ {_line(one.address.key, one.status.value, {}, [])}")
        for one in done.new[:_EXAMPLES]:
            self._note(f"+ {_line(str(one.address), one.status.value, {}, [])}")

    def _suppressed(self, keys: Sequence[str]) -> set[str]:
        by_stored = {key: key for key in keys}
        if self._any_erased:
            by_stored |= {erased_key(key, self._secret): key for key in keys}
        found = self._connection.scalars(
            select(Suppression.c.address_key).where(Suppression.c.address_key.in_(by_stored))
        )
        return {by_stored[stored] for stored in found}

    def _tags_of(self, ids: Sequence[int], rows: Iterable[_Valid]) -> set[tuple[int, str]]:
        if not (ids and (self._tags or any(valid.tags for valid in rows))):
            return set()
        found = self._connection.execute(
            select(SubscriberTag.c.subscriber_id, SubscriberTag.c.tag).where(
                SubscriberTag.c.subscriber_id.in_(ids)
            )
        )
        return {(subscriber_id, tag) for subscriber_id, tag in found}

    def _tag(self, new: Sequence[_Valid]) -> None:
        """Write the tags of a batch, of new and of known subscribers."""
        tags = {valid.address.key: {*self._tags, *valid.tags} for valid in new}
        keys = [key for key, some in tags.items() if some]
        found = self._connection.execute(
            select(Subscriber.c.id, Subscriber.c.address_key).where(Subscriber.c.address_key.in_(keys))
        )
        pairs = self._missing_tags + [(row.id, tag) for row in found for tag in sorted(tags[row.address_key])]
        self._missing_tags = []
        if pairs:
            self._connection.execute(
                insert(SubscriberTag), [{"subscriber_id": one, "tag": tag} for one, tag in pairs]
            )

    def _bring_up_to_date(
        self, row: Any, valid: _Valid, changed: list[dict[str, Any]], tagged: set[tuple[int, str]]
    ) -> None:
        merged = {**row.attributes, **valid.attributes}
        name = valid.name or row.name
        missing = [(row.id, tag) for tag in sorted({*self._tags, *valid.tags})]
        missing = [pair for pair in missing if pair not in tagged]
        self._missing_tags += missing
        if merged == row.attributes and name == row.name and not missing:
            self._report.unchanged += 1
            return
        new_tags = [tag for _, tag in missing]
        self._note(f"- {_line(valid.address.key, row.name, row.attributes, [])}")
        self._note(f"+ {_line(valid.address.key, name, merged, new_tags)}")
        changed.append({"_id": row.id, "name": name, "attributes": merged})
        self._report.updated += 1

    def _note(self, line: str) -> None:
        if len(self._report.changes) < 2 * _EXAMPLES:
            self._report.changes.append(line)

    def _write(self, new: Sequence[_Valid], changed: Sequence[dict[str, Any]]) -> None:
        for valid in new[:_EXAMPLES]:
            line = _line(str(valid.address), valid.name, valid.attributes, [*self._tags, *valid.tags])
            self._note(f"+ {line}")
        if new:
            origin = Origin("import", import_id=self._id)
            insert_without_lines(
                self._connection,
                [
                    Enrolment(
                        one.address,
                        SubscriberStatus.ACTIVE,
                        origin,
                        one.name,
                        one.attributes,
                        self._joined(one.joined_at),
                    )
                    for one in new
                ],
                at=self._at,
            )
            self._report.added += len(new)
        if changed:
            self._connection.execute(
                update(Subscriber)
                .where(Subscriber.c.id == bindparam("_id"))
                .values(name=bindparam("name"), attributes=bindparam("attributes"), changed_at=self._at),
                list(changed),
            )

    def _joined(self, joined_at: datetime | None) -> datetime | None:
        """Return the sign-up date if it is plausible: not in the future, nor before `_EARLIEST`."""
        if joined_at is None or not _EARLIEST <= joined_at <= self._at:
            return None
        self._report.dated += 1
        return joined_at

    def _reject_repeated(self, valid: _Valid) -> None:
        self._reject(valid.line, "the file has this address more than once", str(valid.address))

    def _reject(self, line: int, reason: str, value: str) -> None:
        rejected = Rejected(line, reason, value[:200])
        self._report.rejected += 1
        if len(self._report.examples) < _EXAMPLES:
            self._report.examples.append(rejected)
        self._reject_row(rejected)


def _line(address: str, name: str, attributes: Mapping[str, Any], tags: Sequence[str]) -> str:
    """Return a subscriber as a line of the diff, with the added tags."""
    parts = [address, name, *(f"{key}={value}" for key, value in sorted(attributes.items()))]
    parts += [f"+tag:{tag}" for tag in dict.fromkeys(tags)]
    return shown("  ".join(filter(None, parts)), 200)[1:-1]


def _checked(row: Candidate) -> _Valid:
    if row.problem:
        raise AddressError(row.problem)
    return _Valid(
        row.line,
        parse_address(row.address),
        check_name(row.name),
        check_attributes(row.attributes),
        check_tags(row.tags),
        row.joined_at,
    )


def _batches(rows: Iterator[Candidate]) -> Iterator[list[Candidate]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch
