"""Recognize the kind of an automatic message by its headers and its wording."""

from __future__ import annotations

import re
from typing import Final

from mailer.bounces.reading.mime import Headers

# Patterns and texts are both in lower case, which is several times faster than ignoring case.
_DAEMON: Final = re.compile(
    r"mailer-?daemon|post_?master|mail[ ._-]?delivery|mail administrator|mail[ -]?system|double-bounce|<>"
    r"|delivery.?status|mail daemon|mdaemon|mail-?router|returned mail|bounce[ds]?@|smtp(?:32|relay)?@"
    r"|mailscanner",
)
_FAILURE_SUBJECT: Final = re.compile(
    r"undeliver|delivery (?:status|failure|notif|problem|report|has failed|error|fail)|failure (?:notice"
    r"|delivery)|failed (?:delivery|mail)"
    r"|returned (?:mail|e-?mail|to sender)|returning (?:mail|message)|mail (?:delivery|system|could not"
    r"|failure|failed|error)|non-?delivery|not delivered|could ?n[o']t be delivered"
    r"|nondeliverable|message (?:delivery|status|not)|permanent delivery|error sending|bounce"
    r"|warning: (?:could not|message)|delivery$|rejected|are not member|processing error"
    r"|can ?not be delivered"
    r"|unzustellbar|zustellung|mail konnte nicht|non remis|remise|échec|no se (?:ha podido|pudo)|devuelto"
    r"|mancato recapito|impossibile recapitare|não entregue|falha na entrega"
    r"|ikke leveres|kunde inte levereras|onbestelbaar|nie dostarczon|не доставлен|недоставлен|недостав|配信"
    r"|配送|送信でき|エラー|退信|退件|投递|无法投递|undeliver",
)
_REPLY_SUBJECT: Final = re.compile(
    r"^\s*(?:re|aw|sv|antw|fwd?|wg|tr|vs|rv|enc|odp|回复|答复|转发)\s*(?:\[\d+\])?\s*[:：]"
)
_AUTO_SUBJECT: Final = re.compile(
    r"out of (?:the )?office|auto(?:matic|mated)?[ -]?(?:reply|response|respon|antwort|svar)|autoreply"
    r"|autorespon|auto:|vacation|away from (?:my|the)|on holiday|on leave|maternity"
    r"|abwesen|automatische antwort|nicht im (?:büro|haus)|urlaub|réponse automatique|absen[ct]|congés?\b"
    r"|en vacances|respuesta automática|fuera de (?:la )?oficina|ausente|vacaciones"
    r"|risposta automatica|fuori ufficio|assente|ferie|resposta automática|fora do escritório|férias"
    r"|automatisch antwoord|afwezig|niet aanwezig|frånvar|autosvar|fravær|automatisk svar|poissa"
    r"|autoodpowiedź|automatyczna odpowiedź|nieobecn|urlop|автоответ|отпуск|вне офиса|нет на месте"
    r"|отсутств|不在|自動応答|自動返信|休暇|自动回复|自動回覆|休假|外出|부재|자동"
    r"|automatická odpověď|nepřítomn"
    r"|szabadság|automatikus válasz|otomatik yanıt|ofis dışında|αυτόματη|εκτός γραφείου|răspuns automat"
    r"|תשובה אוטומטית|רد تلقائي|رد تلقائي|lekkal|i am away|thank you for (?:your|contacting)"
    r"|we have received",
)
_CHALLENGE: Final = re.compile(
    r"boxbe|spam ?arrest|sender verification required|verify (?:that )?you are (?:a )?(?:real|human)"
    r"|(?:not|isn't) (?:yet )?(?:on|in) (?:\w+ ){0,4}(?:guest|allowed|approved|safe) ?(?:list|senders?)"
    r"|challenge[ -]response|confirm (?:that )?you(?:r message| are)[^.]{0,60}(?:human|person|sender"
    r"|not spam)|prove (?:that )?you are|your message (?:is|has been) (?:being )?(?:held"
    r"|quarantined)[^.]{0,80}(?:until|pending|confirm|reply|click)"
    r"|tmda|mailblocks|bluebottle|uol antispam|antispam uol|choicemail|only accepts? (?:mail"
    r"|messages) from (?:known|approved)|click (?:on )?the (?:following )?link[^.]{0,80}(?:deliver"
    r"|release) your (?:message|mail)",
)
# Each alternative above contains one of these words, and searching for words is much faster.
_CHALLENGE_WORDS: Final = (
    "boxbe", "arrest", "verif", "guest", "allowed", "approved", "safe", "challenge", "confirm",
    "prove", "held",
    "quarantin", "tmda", "mailblocks", "bluebottle", "uol", "choicemail", "only accept", "click",
)  # fmt: skip
_BOUNCE_WORDS: Final = re.compile(
    r"error has occurred|returned because|encountered an error|expired|aborted|incorrectly|malformed"
    r"|un(?:able"
    r"|successful)[^.]{0,40}(?:to )?(?:deliver|send|relay|process)|undeliver|not (?:be "
    r"|able to be |been )?(?:\w+ )?deliver|n[o']t deliver|could not be (?:sent|delivered|processed)"
    r"|deliver\w* (?:\w+ ){0,6}fail|fail\w* (?:\w+ ){0,5}deliver"
    r"|had (?:permanent|transient)|permanent (?:fatal )?(?:error|failure)|fatal error|did not (?:reach"
    r"|like)|user unknown|unknown user|mailbox (?:is )?full|over quota|quota|rejected|refused"
    r"|returned (?:mail|message)|error (?:message|occurred|sending)"
    r"|no such (?:user|recipient|address)|not (?:a )?(?:member|valid|listed|found)|does(?:n't| not) exist"
    r"|following address|failed address|invalid|exceeds|non-?deliver|message delayed"
    r"|\b[45]\d\d[ -][45]\.\d\.\d|^5\d\d |unreachable|isn't|has moved|bounced|rejete"
    r"|konnte nicht|nicht zugestellt|zugestellt werden|no (?:se )?(?:ha )?(?:podido|pudo"
    r"|puede) (?:ser )?entreg|n'a pas pu|pas pu être|non è stato|impossibile|não (?:foi|pôde)"
    r"|не доставлен|не может быть доставлено|доставлен|できません|できなかった"
    r"|送信でき|配信|配送|不能|无法|退信|失败",
    re.MULTILINE,
)
_DELAY: Final = re.compile(
    r"warning message only|this is a warning|still being retried|do not need to resend"
    r"|delivery has been delayed|has been delayed|\(delay\)|delayed mail|message delayed"
    r"|delayed for more than|will (?:be retried|keep trying|continue)"
    r"|not yet been delivered|has not been delivered yet|still undelivered"
    r"|could not send message for past|temporary failure report|delivery status notification: (?:warning"
    r"|delayed)|delivery delayed|verzögert",
)
_DELIVERED: Final = re.compile(
    r"successfully (?:delivered|relayed)|was delivered to|delivery report that you requested"
    r"|delivery status notification \(success\)|has been (?:successfully )?delivered"
    r"|delivered to (?:the )?following recipients?:",
)
_ROLE: Final = re.compile(
    r"^(?:mailer-daemon|postmaster|hostmaster|abuse|support|help-?desk|webmaster|double-bounce|admin"
    r"|noreply|no-reply|root)@",
)
_AUTO_HEADERS: Final = (
    "x-autoreply", "x-autorespond", "x-autoresponder", "x-auto-reply", "x-mail-autoreply",
    "x-vacation", "x-away-message",
    "x-zimbra-out-of-office", "x-ms-exchange-generated-message-source", "x-autoreply-from",
    "x-autogenerated", "x-notes-outofoffice",
)  # fmt: skip


def is_role(address: str) -> bool:
    """Return whether an address is one that mail systems name as a contact."""
    return _ROLE.match(address.lower()) is not None


def is_from_mail_system(headers: Headers) -> bool:
    """Return whether the sender is typical of a mail system's notification."""
    return "x-failed-recipients" in headers or is_from_daemon(headers) or bool(headers.get("x-mlserver"))


def names_failure(subject: str) -> bool:
    """Return whether the subject is typical of a failure notification, and not a reply to one."""
    subject = subject.lower()
    if " : non remis" in subject:  # Some French systems append it to the original subject.
        return True
    return _FAILURE_SUBJECT.search(subject) is not None and not _REPLY_SUBJECT.match(subject)


def has_null_sender(headers: Headers) -> bool:
    """Return whether the envelope sender is empty (RFC 5321 section 4.5.5)."""
    return "<>" in headers.all("return-path")


def is_auto_reply(headers: Headers, subject: str) -> bool:
    """Return whether the message is an automatic reply (RFC 3834) from a person's mailbox.

    Exim and others mark their bounces `auto-replied` too, so notifications of mail systems are excluded.
    """
    system = is_from_mail_system(headers) or names_failure(subject)
    subject = subject.lower()
    if system and (is_from_daemon(headers) or headers.get("x-failed-recipients")):
        return bool(_AUTO_SUBJECT.search(subject)) and not _FAILURE_SUBJECT.search(subject)
    if _AUTO_SUBJECT.search(subject):
        return True
    answered = headers.get("auto-submitted").lower().split(";")[0].strip()
    if answered.startswith(("auto-replied", "auto-generated", "auto-notified")) and not system:
        return True
    if (
        headers.get("precedence").lower() in ("auto_reply", "auto-reply")
        or headers.get("x-precedence").lower() == "auto_reply"
    ):
        return True
    return any(headers.get(name) for name in _AUTO_HEADERS) and not system


def is_challenge(headers: Headers, subject: str, notice: str) -> bool:
    """Return whether a filter asks the sender to prove that they are human."""
    text = f"{headers.get('from')[:200]}\n{subject[:300]}\n{notice[:6000]}".lower()
    return any(word in text for word in _CHALLENGE_WORDS) and _CHALLENGE.search(text) is not None


def is_from_daemon(headers: Headers) -> bool:
    """Return whether the author has the name of a mail system, such as `MAILER-DAEMON`."""
    return _DAEMON.search(headers.get("from")[:400].lower()) is not None


def reads_like_bounce(text: str) -> bool:
    """Return whether the text describes a failed delivery."""
    return _BOUNCE_WORDS.search(text[:12000].lower()) is not None


def is_delay_notice(subject: str, notice: str) -> bool:
    """Return whether the notification says that a message is delayed."""
    return _DELAY.search(f"{subject[:300]}\n{notice[:4000]}".lower()) is not None


def is_delivered_notice(subject: str, notice: str) -> bool:
    """Return whether the notification says that a message was delivered."""
    return _DELIVERED.search(f"{subject[:300]}\n{notice[:4000]}".lower()) is not None
