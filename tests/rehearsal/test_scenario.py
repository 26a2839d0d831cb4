"""A scenario affects the same people each time; errors in its file name the line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.config import section
from mailer.config.shipped import shipped
from mailer.errors import SourceError
from mailer.rehearsal.scenario import FaultKind, InjectedFault, Scenario, read_scenario


def fault(**keys: object) -> InjectedFault:
    return section(InjectedFault, keys)


def struck(scenario: Scenario, number: int = 5_000) -> set[int]:
    return {n for n in range(number) if scenario.faults_of(f"s{n}@example.org")}


def test_the_one_that_comes_with_the_program_uses_every_kind() -> None:
    assert {one.kind for one in read_scenario().faults} == set(FaultKind)


def test_same_seed_strikes_the_same_people_and_another_seed_others() -> None:
    faults = (fault(kind="close", share="10%"),)
    first = struck(Scenario(seed=1, faults=faults))
    assert first == struck(Scenario(seed=1, faults=faults))
    assert first != struck(Scenario(seed=2, faults=faults))
    assert len(first) == pytest.approx(500, rel=0.2)


def test_faults_strike_independently_of_each_other() -> None:
    scenario = Scenario(faults=(fault(kind="close", share="30%"), fault(kind="drop", share="30%")))
    both = [n for n in range(5_000) if len(scenario.faults_of(f"s{n}@example.org")) == 2]
    assert len(both) == pytest.approx(450, rel=0.25)


def test_domains_narrow_a_fault() -> None:
    scenario = Scenario(faults=(fault(kind="close", domains=["Example.ORG"]),))
    assert len(scenario.faults_of("a@example.org")) == 1
    assert scenario.faults_of("a@example.com") == ()


@pytest.mark.parametrize(
    ("keys", "tries"),
    [
        ({"kind": "reply", "reply": "550 5.1.1 No such user"}, math.inf),
        ({"kind": "reply", "reply": "452 4.2.2 Full"}, 1),
        ({"kind": "reply", "reply": "452 4.2.2 Full", "times": 3}, 3),
        ({"kind": "reply", "reply": "452 4.2.2 Full", "times": 0}, math.inf),
        ({"kind": "greylist"}, math.inf),
        ({"kind": "drop"}, 1),
    ],
)
def test_temporary_faults_strike_once_unless_told_otherwise(keys: dict[str, object], tries: float) -> None:
    assert fault(**keys).tries == tries


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("seed = 1\nsed = 2", 2, "unknown key 'sed'; did you mean 'seed'?"),
        ("[server]\nreply_tme = 3", 2, "did you mean 'reply_time'?"),
        ('[[faults]]\nkind = "drop"\n[[faults]]\nkind = "nap"', 4, "'kind'"),
        ('[[faults]]\nkind = "drop"\n\n[[faults]]\nkind = "drop"\nshare = "3"', 6, "write it like '2%'"),
        ('[[faults]]\nkind = "drop"\nshare = 1.5', 3, "'share'"),
        ('[[faults]]\nshare = "2%"', 1, "'kind': it is missing"),
        ('[[faults]]\nkind = "reply"', 1, "needs a reply"),
        ('[[faults]]\nkind = "reply"\nreply = "250 Fine"', 3, "is not a refusal like"),
        ('[[faults]]\nkind = "reply"\nreply = "450 a\\r\\nb"', 3, "is not a refusal like"),
        (
            '[[faults]]\nkind = "close"\ndelay = 3',
            3,
            "'delay': it does not apply to a fault of kind 'close'",
        ),
        ('[[faults]]\nkind = "slow"\ndelay = -3', 3, "'delay'"),
        ('[[faults]]\nkind = "close"\ndomains = ["not a domain"]', 3, "not a domain"),
        ("seed = 1\nserver = ", 2, "invalid value"),
    ],
)
def test_wrong_file_is_reported_with_line_and_remedy(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = tmp_path / "day.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        read_scenario(path)
    assert said in caught.value.message
    assert caught.value.message.startswith(f"{path}:")
    assert f"{path}:{line}:" in caught.value.message
    assert caught.value.remedy


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nothing\.toml: no such file"):
        read_scenario(tmp_path / "nothing.toml")


@given(st.text(max_size=300))
@settings(deadline=None)
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read = read_scenario(path)
    except SourceError as error:
        read = None
        told = error.message
    assert isinstance(read, Scenario) or told.startswith(str(path))


def test_every_shipped_scenario_is_read() -> None:
    files = sorted(shipped("scenarios").glob("*.toml"))
    assert files
    for path in files:
        assert read_scenario(path, seed=7).seed == 7
