"""What many tests stand on: a database, the seed issue, and servers that may be missing."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from mailer.database.engine import Database
from tests.databases import empty_database
from tests.end_to_end import newsletter
from tests.postgres import Server, running
from tests.programs import missing, program

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["missing", "program"]

_MEMORY = Path("/dev/shm")
_ENOUGH_OCTETS = 8 * 2**30


def _keep_temporary_files_in_memory() -> None:
    """Keep temporary files in memory if there is enough of it: a disk takes milliseconds for each commit.

    A process that is killed leaves the same files there as on a disk.
    """
    if "TMPDIR" in os.environ or not _MEMORY.is_dir():
        return
    found = os.statvfs(_MEMORY)
    if found.f_bavail * found.f_frsize >= _ENOUGH_OCTETS and not found.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


_keep_temporary_files_in_memory()
# The usual 700 would make seconds of collections while tests are imported.
gc.set_threshold(20_000)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs like this, and the commands that the tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
# On a busy machine any example can take longer than Hypothesis's deadline. It knows CI by itself.
settings.register_profile("without deadline", deadline=None)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=20)
if "CI" not in os.environ:
    settings.load_profile("without deadline")

PROJECT = Path(__file__).parents[1]
SHARED = PROJECT.parent / "shared"
_ON_BOTH = (
    "tests.audience.",
    "tests.bounces.",
    "tests.database.test_rows",
    "tests.database.test_secrets",
    "tests.delivery.test_ab_tests.test_nobody_gets_two_arms",
    "tests.delivery.test_ab_tests.test_no_clear_difference",
    "tests.delivery.test_amend",
    "tests.delivery.test_books",
    "tests.delivery.test_letters",
    "tests.delivery.test_newcomers",
    "tests.delivery.test_our_fault",
    "tests.review.test_people_csv.test_groups",
    "tests.delivery.test_resending",
    "tests.delivery.test_schedule",
    "tests.delivery.test_sender",
    "tests.delivery.test_sequences.test_removed_step",
    "tests.delivery.test_sequences.test_only_what_happens",
    "tests.delivery.test_sequences.test_pause",
    "tests.delivery.test_sign_up",
    "tests.delivery.test_two_runs",
    "tests.delivery.test_withdraw",
    "tests.reports.",
    "tests.review.test_filling",
    "tests.web.test_events",
    "tests.webhooks.",
)
_ON_SQLITE_ALONE = (
    "tests.audience.transfer.test_traps.",
    "tests.bounces.providers.",
    "tests.bounces.test_breaker.",
    "tests.delivery.test_our_fault.test_refusal_of_us",
    "tests.delivery.test_our_fault.test_second_relay",
)
"""These run statements that others run on both, with many more values."""
_ON_BOTH_STILL = (
    "tests.audience.transfer.test_traps.test_what_the_refusal_says_to_add_is_enough",
    "tests.bounces.test_breaker.test_many_small_domains",
    "tests.bounces.test_breaker.test_reclassified_reports",
    "tests.bounces.test_breaker.test_soft_bounces",
    "tests.bounces.test_breaker.test_whole_issue",
)


_STRESS = (
    "tests/audience/test_any_order.py",
    "tests/audience/test_statuses.py::TestConsents",
    "tests/audience/test_statuses.py::test_opt_outs_of_imports_in_every_order",
    "tests/bounces/boxes/test_maildir.py::test_message_that_kills",
    "tests/bounces/reading/test_report_bounds.py",
    "tests/bounces/reading/test_report_corpus.py",
    "tests/bounces/test_breaker.py::test_whole_issue",
    "tests/cluster/test_outages.py",
    "tests/cluster/test_worker_command.py",
    "tests/console/test_in_browser.py::test_large_import",
    "tests/delivery/test_ab_tests.py::test_nobody_gets_two_arms_however_often_it_is_killed",
    "tests/delivery/test_books.py::test_books_balance",
    "tests/delivery/test_database_faults.py",
    "tests/delivery/test_hostile.py::test_nonsense",
    "tests/delivery/test_hostile.py::test_whatever_it_does",
    "tests/delivery/test_sequences_any_order.py",
    "tests/delivery/test_shared_limits.py",
    "tests/delivery/test_upgrading.py::test_killed_upgrade",
    "tests/end_to_end/test_amended.py",
    "tests/end_to_end/test_crash.py",
    "tests/end_to_end/test_hostile_issues.py",
    "tests/end_to_end/test_killed_server.py",
    "tests/end_to_end/test_kills.py",
    "tests/end_to_end/test_postgresql.py",
    "tests/end_to_end/test_two_machines.py",
    "tests/rendering/message/test_composer.py::test_a_message_says_what_jinja_says",
    "tests/rendering/test_same_words.py",
    "tests/replies/test_refusals_of_us.py",
    "tests/web/test_api.py::test_nothing_in_the_description",
    "tests/web/test_every_route.py",
    "tests/web/test_hooks.py::test_request_with_a_fault",
    "tests/web/test_letters.py::test_thread_outlives",
)
"""Kills, outages, floods, long random sequences: each repeats an act many times to find a rare fault."""

_SLOW = (
    "tests/audience/test_statuses.py",
    "tests/bounces/boxes/test_maildir.py",
    "tests/bounces/test_breaker.py",
    "tests/cli/test_canary.py",
    "tests/cli/test_imports.py",
    "tests/cli/test_issue_mistakes.py",
    "tests/cli/test_rehearse.py",
    "tests/cluster/",
    "tests/console/test_access.py",
    "tests/console/test_downloads.py",
    "tests/console/test_in_browser.py",
    "tests/delivery/test_restored_copies.py",
    "tests/delivery/test_sequences.py",
    "tests/end_to_end/test_bad_input.py",
    "tests/end_to_end/test_demo.py",
    "tests/end_to_end/test_journey.py",
    "tests/end_to_end/test_mtas.py",
    "tests/end_to_end/test_postfix.py",
    "tests/end_to_end/test_same_measures.py",
    "tests/oracle/",
    "tests/rehearsal/test_rehearse.py",
    "tests/rendering/lint/test_templates.py::test_any_accent",
    "tests/rendering/source/test_raw_html.py::test_elements_without_end",
    "tests/rendering/test_bad_input.py",
    "tests/rendering/test_values.py",
    "tests/review/test_spam.py::test_seed",
    "tests/review/test_spam.py::test_spam",
    "tests/smtp/test_dkim_verifiers.py::test_both_verifiers_accept",
    "tests/test_deploy.py",
    "tests/test_docs_site.py",
    "tests/web/test_accessibility.py",
    "tests/web/test_catalogue.py::test_catalogue_holds",
    "tests/web/test_hooks.py",
    "tests/web/test_hub.py",
    "tests/web/test_in_browser.py",
    "tests/web/test_links.py",
    "tests/web/test_outbox_in_browser.py",
    "tests/web/test_preview_in_browser.py",
    "tests/web/test_public_site.py",
)
"""The slowest, by `pytest --durations`; they depend least on the version of Python."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the files whose tests are all left out: every worker would spend seconds on importing them."""
    if collection_path.is_dir() or collection_path.name == "conftest.py":
        return None
    path = collection_path.relative_to(PROJECT).as_posix()
    marks = config.getoption("markexpr")
    if marks == "stress":
        return not any(entry.startswith(path) or path.startswith(entry) for entry in _STRESS) or None
    left_out = {"not stress": _STRESS, "not slow and not stress": (*_STRESS, *_SLOW)}.get(marks, ())
    return path.startswith(left_out) or None


def pytest_collection_finish() -> None:
    """Keep the garbage collector away from what stays until the end: ten thousand tests and their modules.

    It would go through all of them whenever a test makes many objects.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test` leaves to `make stress`, and what `make quick` leaves out as well.

    `make quick` runs neither the slowest tests nor those that repeat others on PostgreSQL.
    """
    for item in items:
        if item.nodeid.startswith(_STRESS):
            item.add_marker(pytest.mark.stress)
        elif item.nodeid.startswith(_SLOW) or re.search(r"[\[-]postgresql[-\]]", item.name):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what is kept between runs of the program out of the tests: each session begins without."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Let the databases of all tests share compiled statements.

    Each engine compiles its own, which takes a fifth of the tests' time.
    """
    shared: Engine | None = None
    compiled_for_postgresql: Any = None

    def created(url: URL, **options: Any) -> Engine:
        nonlocal shared, compiled_for_postgresql
        engine = create_engine(url, **options)
        if url.get_backend_name() == "sqlite":
            shared = shared or engine
            engine.dialect = engine.pool._dialect = shared.dialect
            engine._compiled_cache = shared._compiled_cache
        else:
            compiled_for_postgresql = compiled_for_postgresql or engine._compiled_cache
            engine._compiled_cache = compiled_for_postgresql
        return engine

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("mailer.database.engine.create_engine", created)
        # These know the schema of their own database; the statements that they compile are the same.
        patched.setattr(PGDialect_psycopg, "__hash__", lambda dialect: hash(PGDialect_psycopg))
        patched.setattr(PGDialect_psycopg, "__eq__", lambda dialect, other: type(dialect) is type(other))
        yield


@pytest.fixture(autouse=True)
def started_commands_end() -> Iterator[None]:
    """Let no test leave a command running, so that one that fails does not fail the next."""
    yield
    newsletter.end_started()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, driven by Playwright: no longer than a module, since no event loop can run beside it."""
    # Imported here, since few tests need it.
    from playwright.sync_api import sync_playwright

    from mailer.review import chromium

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program(*chromium.NAMES), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server of this test run's own."""
    with running() as server:
        yield server


def pytest_xdist_auto_num_workers() -> int:
    """Twice as many as there are cores, as tests wait for servers and processes half of their time."""
    return 2 * (os.cpu_count() or 1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what speaks SQL on both databases."""
    name = f"{metafunc.module.__name__}.{metafunc.function.__name__}"
    both = name.startswith(_ON_BOTH_STILL) or (
        name.startswith(_ON_BOTH) and not name.startswith(_ON_SQLITE_ALONE)
    )
    if "database" in metafunc.fixturenames and both:
        metafunc.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of the newest schema."""
    with contextlib.ExitStack() as stack:
        if getattr(request, "param", "sqlite") == "postgresql":
            url = stack.enter_context(request.getfixturevalue("postgresql").lent_database())
            yield stack.enter_context(Database(url, folder=tmp_path))
        else:
            yield stack.enter_context(empty_database(tmp_path))


@pytest.fixture
def at() -> datetime:
    """An instant to stand still at."""
    return datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def seed() -> Path:
    """The operator's first issue."""
    path = SHARED / "seed" / "last-week-in-ai-1.md"
    if not path.exists():
        missing(str(path.relative_to(PROJECT.parent)))
    return path
