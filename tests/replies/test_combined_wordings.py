"""Replies that refuse something of ours and add "user unknown": never hard, in either order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.replies import Fault, judge
from mailer.replies.providers import PROVIDERS
from tests.replies.test_refusals_of_us import CODES, COMMANDS, HOST, IP, STATUSES, US
from tests.replies.test_unknown_recipients import QUOTED, READER

# Things that a reply would only name in order to refuse them.
THINGS = (
    f"IP {IP}",
    f"IP address {IP}",
    f"IP [{IP}]",
    f"your IP {IP}",
    "your IP address",
    f"client {IP}",
    f"client host [{IP}]",
    f"client {HOST}[{IP}]",
    f"host {HOST}",
    f"host {HOST} [{IP}]",
    f"remote host {IP}",
    f"connection from {IP}",
    f"server {HOST}",
    f"relay {HOST}",
    f"HELO {HOST}",
    f"sender <{US}>",
    f"sender address {US}",
    f"envelope sender <{US}>",
    f"MAIL FROM:<{US}>",
    "your account",
    "your domain",
    f"author <{US}>",
)
REFUSED = (
    "not allowed",
    "is not allowed here",
    "not authorized",
    "unauthorized",
    "is not permitted",
    "rejected",
    "was refused",
    "denied",
    "access denied",
    "blocked",
    "has been banned",
    "is blacklisted",
    "is listed by zen.spamhaus.org",
    "not accepted",
    "may not send mail here",
    "cannot be verified",
)
# Whose address this is only shows in what is refused: nobody needs permission to be written to.
ACCOUNTS = (
    f"user <{US}>",
    f"user {US}",
    f"account {US}",
    f"login {US}",
    f"address <{US}>",
    f"<{US}>",
    f"mailbox {US}",
    "account",
    "user",
    "domain letters.example.org",
    "you are",
)
UNAUTHORIZED = (
    "not authorized",
    "not authorised to send",
    "unauthorized",
    "not authenticated",
    "not allowed to send",
    "not permitted to send mail",
    "not allowed to relay",
    "may not send from here",
    "not enabled for sending",
)
# A callback or callout quotes the reply of another server, often to RCPT TO:<us>.
CHECKS = (
    "Callout verification failed",
    "callout failed",
    "Sender callout verification failed",
    "Callback verification failed",
    "sender verification failed",
    "Sender verify failed",
    f"Sender verify failed for <{US}>",
    f"Verification failed for <{US}>",
    f"could not verify <{US}>",
    "Could not complete sender verify callout",
    "Previous (cached) callout verification failure",
    f"Called: {IP} Sent: RCPT TO:<{US}> Response",
    "Sender address verification in progress",
    "authentication failed",
    f"authentication failed for {US}",
    "Authentication required",
    "SMTP AUTH failed",
    "login failed",
    "Login denied",
    "535 authentication credentials invalid",
    "SPF check failed",
    "DMARC policy",
)
DISABLED = (
    "account disabled",
    "mailbox is disabled",
    "user inactive",
    "account is suspended",
    "mailbox full",
)
FOREIGN_REFUSALS = (
    f"IP-Adresse {IP} gesperrt",
    f"Ihre IP-Adresse {IP} ist nicht erlaubt",
    f"Absender <{US}> abgelehnt",
    "Absender nicht erlaubt",
    "Absenderprüfung fehlgeschlagen",
    "Anmeldung fehlgeschlagen",
    f"adresse IP {IP} refusée",
    "expéditeur refusé",
    "expéditeur non autorisé",
    "échec de l'authentification",
    f"IP {IP} bloqueada",
    "remitente rechazado",
    "remitente no autorizado",
    "autenticación fallida",
    f"indirizzo IP {IP} bloccato",
    "mittente rifiutato",
    "mittente non autorizzato",
    "autenticazione fallita",
    f"IP {IP} bloqueado",
    "remetente recusado",
    "remetente não autorizado",
    f"IP-adres {IP} geblokkeerd",
    "afzender geweigerd",
    f"adres IP {IP} zablokowany",
    "nadawca odrzucony",
    f"IP-адрес {IP} заблокирован",
    "отправитель отклонен",
    "ошибка аутентификации",
    f"IP地址{IP}被拒绝",
    "发件人被拒绝",
    "送信者が拒否されました",
)
UNKNOWN = (
    "unknown user",
    "user unknown",
    "no such user",
    "no such user here",
    "no such account",
    "account does not exist",
    "user does not exist",
    "mailbox not found",
    "mailbox unavailable",
    "recipient unknown",
    "invalid recipient",
    "unknown recipient",
    "unrouteable address",
    f"<{READER}>: user unknown",
    f"user {READER} not found",
    f"<{READER}>: Recipient address rejected: User unknown in virtual mailbox table",
)
FOREIGN_UNKNOWN = (
    "Benutzer unbekannt",
    "Empfänger unbekannt",
    "Postfach existiert nicht",
    "utilisateur inconnu",
    "destinataire inconnu",
    "usuario desconocido",
    "el usuario no existe",
    "utente sconosciuto",
    "usuário inexistente",
    "gebruiker onbekend",
    "użytkownik nieznany",
    "пользователь не найден",
    "用户不存在",
    "ユーザーが存在しません",
)
SEPARATORS = (", ", "; ", ": ", ". ", " - ", " -- ", " / ", " | ", "\n", " (", ": 550 ", ": 550 5.1.1 ", "! ")

refusals_of_ours = st.one_of(
    st.builds("{} {}".format, st.sampled_from(THINGS), st.sampled_from(REFUSED)),
    st.builds("{}: {}".format, st.sampled_from(THINGS), st.sampled_from(REFUSED)),
    st.builds("{} {}".format, st.sampled_from(ACCOUNTS), st.sampled_from(UNAUTHORIZED)),
    st.sampled_from(CHECKS),
)
unknown_users = st.sampled_from(UNKNOWN)
separators = st.sampled_from(SEPARATORS)
replies_at_any_command = st.tuples(
    st.sampled_from(CODES), st.sampled_from(STATUSES), st.sampled_from(COMMANDS)
)


def joined(first: str, separator: str, second: str) -> str:
    return first + separator + second + (")" if "(" in separator else "")


@settings(deadline=None, max_examples=600)
@given(refusals_of_ours, separators, unknown_users, st.booleans(), replies_at_any_command)
def test_refusal_of_ours_beside_an_unknown_user_is_never_hard(
    refusal: str, separator: str, unknown: str, refusal_first: bool, where: tuple[int, str, str]
) -> None:
    code, status, command = where
    first, second = (refusal, unknown) if refusal_first else (unknown, refusal)
    text = joined(first, separator, second)
    assert not judge(code, status, text, command=command).hard


@pytest.mark.parametrize(
    "status", sorted({rule.status.partition("-")[0] for rule in PROVIDERS if rule.status})
)
@pytest.mark.parametrize("check", CHECKS)
def test_no_status_of_a_provider_makes_a_check_of_us_hard(check: str, status: str) -> None:
    for unknown in UNKNOWN:
        for text in (f"{check}, {unknown}", f"{unknown}, {check}"):
            assert not judge(550, f"5.{status}", text).hard, text


@settings(deadline=None, max_examples=300)
@given(refusals_of_ours, separators, st.sampled_from(DISABLED), st.booleans())
def test_refusal_of_ours_beside_a_closed_account_counts_against_nobody(
    refusal: str, separator: str, disabled: str, refusal_first: bool
) -> None:
    first, second = (refusal, disabled) if refusal_first else (disabled, refusal)
    assert judge(550, "5.2.1", joined(first, separator, second)).fault is not Fault.RECIPIENT


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.tuples(st.sampled_from(FOREIGN_REFUSALS), st.sampled_from(FOREIGN_UNKNOWN + UNKNOWN)),
        st.tuples(refusals_of_ours, st.sampled_from(FOREIGN_UNKNOWN)),
    ),
    separators,
    st.booleans(),
    replies_at_any_command,
)
def test_refusal_of_ours_in_another_language_is_never_hard(
    clauses: tuple[str, str], separator: str, refusal_first: bool, where: tuple[int, str, str]
) -> None:
    code, status, command = where
    first, second = clauses if refusal_first else clauses[::-1]
    assert not judge(code, status, joined(first, separator, second), command=command).hard


@pytest.mark.parametrize("unknown", FOREIGN_UNKNOWN)
@pytest.mark.parametrize("quoted", QUOTED)
def test_unknown_recipient_in_another_language_is_hard_beside_a_quote(unknown: str, quoted: str) -> None:
    verdict = judge(550, "5.1.1", quoted.format(unknown))
    assert (verdict.hard, verdict.fault) == (True, Fault.RECIPIENT)
