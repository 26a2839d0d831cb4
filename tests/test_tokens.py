"""Signed strings that come back."""

import base64
import hmac
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.errors import TokenError
from mailer.tokens import Signer, Subject

OLD, NEW = b"the older secret, 16+", b"the newer secret, 16+"
SIGNER = Signer([NEW])
BASE32, HEX = "abcdefghijklmnopqrstuvwxyz234567", "0123456789abcdef"
ALPHABETS = {"link": HEX, "confirmation": HEX, "return_path": BASE32}
KINDS = ["link", "confirmation", "return_path"]
kinds = st.sampled_from(KINDS)
subjects = st.builds(Subject, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))


def make(signer: Signer, kind: str, subject: Subject) -> str:
    written: str = getattr(signer, kind)(subject)
    return written


def reader(signer: Signer, kind: str) -> Callable[[str], Subject]:
    read: Callable[[str], Subject] = getattr(signer, f"read_{kind}")
    return read


@given(kinds, subjects)
def test_a_token_reads_back(kind: str, subject: Subject) -> None:
    assert reader(SIGNER, kind)(make(SIGNER, kind, subject)) == subject


@given(kinds, subjects)
def test_a_token_is_the_same_each_time(kind: str, subject: Subject) -> None:
    assert make(Signer([NEW]), kind, subject) == make(SIGNER, kind, subject)


@given(subjects)
def test_tokens_fit_where_they_go(subject: Subject) -> None:
    path = SIGNER.return_path(subject)
    assert len(f"b.{path}") <= 64
    for kind in KINDS:
        assert set(make(SIGNER, kind, subject)) <= set(ALPHABETS[kind])


@given(kinds, subjects, st.data())
def test_a_token_survives_a_change_of_case(kind: str, subject: Subject, data: st.DataObject) -> None:
    token = make(SIGNER, kind, subject)
    changed = "".join(data.draw(st.sampled_from((letter, letter.upper()))) for letter in token)
    for spelling in (changed, token.upper()):
        assert reader(SIGNER, kind)(spelling) == subject


def test_letters_that_only_upper_case_makes_ascii_are_refused() -> None:
    token = next(
        token for number in range(10_000) if "ss" in (token := SIGNER.return_path(Subject(1, number)))
    )
    with pytest.raises(TokenError):
        SIGNER.read_return_path(token.replace("ss", "ß"))


@given(st.sampled_from(("link", "confirmation")), subjects)
def test_a_link_from_when_they_were_base64url_still_works(kind: str, subject: Subject) -> None:
    old = base64.urlsafe_b64encode(octets(kind, make(SIGNER, kind, subject))).decode().rstrip("=")
    assert reader(SIGNER, kind)(old) == subject


@given(kinds, subjects, st.data())
def test_one_changed_character_is_refused(kind: str, subject: Subject, data: st.DataObject) -> None:
    token = make(SIGNER, kind, subject)
    at = data.draw(st.integers(0, len(token) - 1))
    alphabet = ALPHABETS[kind] + "ABCXYZgz0189-_="
    other = data.draw(st.sampled_from(alphabet).filter(lambda letter: letter.lower() != token[at]))
    with pytest.raises(TokenError):
        reader(SIGNER, kind)(token[:at] + other + token[at + 1 :])


@given(kinds, subjects, st.data())
def test_a_cut_or_longer_token_is_refused(kind: str, subject: Subject, data: st.DataObject) -> None:
    token = make(SIGNER, kind, subject)
    cut = token[: data.draw(st.integers(0, len(token) - 1))]
    for wrong in (cut, token + "a", token + "=", token + "\n", f" {token}", "a" + token):
        with pytest.raises(TokenError):
            reader(SIGNER, kind)(wrong)


def octets(kind: str, token: str) -> bytes:
    if kind == "return_path":
        return base64.b32decode(token.upper() + "=" * (-len(token) % 8))
    return bytes.fromhex(token)


def written(kind: str, raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower() if kind == "return_path" else raw.hex()


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_of_a_token_counts_and_96_of_them_are_its_mac(kind: str) -> None:
    raw = octets(kind, make(SIGNER, kind, Subject(7, 300)))
    assert len(raw) == len(b"\x01\x07" + b"\x02\x01\x2c") + 96 // 8
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TokenError):
            reader(SIGNER, kind)(written(kind, bytes(flipped)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", range(12))
def test_a_shorter_mac_is_refused(kind: str, kept: int) -> None:
    raw = octets(kind, make(SIGNER, kind, Subject(7, 300)))
    with pytest.raises(TokenError):
        reader(SIGNER, kind)(written(kind, raw[: 5 + kept]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", range(13, 33))
def test_a_longer_mac_is_refused_although_it_is_the_right_one(kind: str, kept: int) -> None:
    raw = octets(kind, make(SIGNER, kind, Subject(7, 300)))
    purpose = {"link": b"link", "confirmation": b"confirm", "return_path": b"return-path"}[kind]
    mac = hmac.digest(hmac.digest(NEW, b"mailer/" + purpose + b"/1", "sha256"), raw[:5], "sha256")
    assert raw == raw[:5] + mac[:12]
    with pytest.raises(TokenError):
        reader(SIGNER, kind)(written(kind, raw[:5] + mac[:kept]))


@given(kinds, st.text(max_size=80))
def test_foreign_tokens_are_refused(kind: str, text: str) -> None:
    with pytest.raises(TokenError):
        reader(SIGNER, kind)(text)


@given(st.permutations(KINDS), subjects)
def test_a_token_of_one_purpose_is_refused_for_another(pair: list[str], subject: Subject) -> None:
    with pytest.raises(TokenError):
        reader(SIGNER, pair[0])(make(SIGNER, pair[1], subject))


@given(kinds, subjects)
def test_a_rotated_key_still_verifies_and_the_newest_signs(kind: str, subject: Subject) -> None:
    rotated = Signer([OLD, NEW])
    assert reader(rotated, kind)(make(Signer([OLD]), kind, subject)) == subject
    assert make(rotated, kind, subject) == make(Signer([NEW]), kind, subject)


@given(kinds, subjects)
def test_a_token_of_a_foreign_key_is_refused(kind: str, subject: Subject) -> None:
    with pytest.raises(TokenError):
        reader(SIGNER, kind)(make(Signer([OLD]), kind, subject))


def signed_by_hand(packed: bytes) -> str:
    key = hmac.digest(NEW, b"mailer/link/1", "sha256")
    return written("link", packed + hmac.digest(key, packed, "sha256")[:12])


@pytest.mark.parametrize(
    ("subject", "packed"),
    [
        (Subject(7, 300), b"\x01\x07\x02\x01\x2c"),
        (Subject(0, 1), b"\x00\x01\x01"),
        (Subject(127, 128), b"\x01\x7f\x01\x80"),
        (Subject(255, 256), b"\x01\xff\x02\x01\x00"),
        (Subject(0, 2**63 - 1), b"\x00\x08\x7f\xff\xff\xff\xff\xff\xff\xff"),
    ],
)
def test_a_token_is_made_of_the_same_octets_as_years_ago(subject: Subject, packed: bytes) -> None:
    assert signed_by_hand(packed) == SIGNER.link(subject)


@pytest.mark.parametrize(
    ("subject", "unused_bits"), [(Subject(7, 300), 2), (Subject(0, 1), 0), (Subject(7, 1), 4)]
)
def test_an_old_link_has_one_spelling(subject: Subject, unused_bits: int) -> None:
    raw = octets("link", SIGNER.link(subject))
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    old = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    assert SIGNER.read_link(old) == subject
    last = digits.index(old[-1])
    others = [old[:-1] + digits[last ^ bits] for bits in range(1, 1 << unused_bits)]
    for wrong in (
        *others,
        old + "=",
        f"{old[:4]} {old[4:]}",
        f"{old[:4]}!{old[4:]}",
        f"{old}====",
        f"{old}é",
    ):
        with pytest.raises(TokenError):
            SIGNER.read_link(wrong)


def test_a_subject_never_changes() -> None:
    assert {Subject(1, 2), Subject(1, 2)} == {Subject(1, 2)}
    with pytest.raises(AttributeError):
        Subject(1, 2).issue_id = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "packed", [b"\x01\x07\x02\x01\x2c\x00", b"\x01\x07", b"\x01\x07\x02\x01", b"\x09" * 11]
)
def test_a_signed_token_of_another_shape_is_refused(packed: bytes) -> None:
    with pytest.raises(TokenError):
        SIGNER.read_link(signed_by_hand(packed))


def test_a_secret_of_16_octets_is_enough() -> None:
    assert Signer([b"x" * 16]).link(Subject(0, 1))


@pytest.mark.parametrize("secrets", [[], [b"x" * 15], [NEW, b"short"]])
def test_a_short_secret_is_refused(secrets: list[bytes]) -> None:
    with pytest.raises(ValueError, match="16 octets"):
        Signer(secrets)


@pytest.mark.parametrize("subject", [Subject(-1, 1), Subject(1, 2**63)])
def test_a_number_out_of_range_is_refused(subject: Subject) -> None:
    with pytest.raises(ValueError, match="not an identifier"):
        SIGNER.link(subject)
