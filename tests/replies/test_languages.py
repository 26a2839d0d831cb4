"""Refusals in other languages than English."""

from __future__ import annotations

import pytest

from mailer.replies import BounceClass, judge
from mailer.replies.languages import read_foreign, without_marks

REPLIES = {
    BounceClass.INVALID_MAILBOX: (
        "Dieser Empfänger existiert nicht",
        "Benutzer unbekannt",
        "Empfängeradresse ungültig",
        "Die E-Mail-Adresse konnte nicht gefunden werden",
        "Empfaenger existiert nicht",
        "Kein solcher Benutzer",
        "Unbekannte Adresse",
        "Utilisateur inexistant",
        "Destinataire inconnu",
        "Boîte aux lettres inexistante",
        "Adresse inconnue",
        "L'adresse n'existe pas",
        "Usuario no encontrado",
        "El usuario no existe",
        "Buzon inexistente",
        "Destinatario desconocido",
        "Direccion de correo no valida",
        "Utente inesistente",
        "Casella inesistente",
        "Destinatario inesistente",
        "Indirizzo non valido",
        "Destinatário não encontrado",
        "Usuario nao existe",
        "Conta inexistente",
        "Endereço inválido",
        "Gebruiker bestaat niet",
        "Ontvanger onbekend",
        "Adres bestaat niet",
        "Uzytkownik nieznany",
        "Nie znaleziono odbiorcy",
        "Konto nie istnieje",
        "Nieprawidlowy adres odbiorcy",
        "Пользователь не найден",
        "Адресат не существует",
        "Нет такого пользователя",
        "Почтовый ящик не найден",
        "Неизвестный получатель",
        "用户不存在",
        "收件人地址不存在",
        "该用户不存在",
        "无此用户",
        "邮箱不存在",
        "收件者不存在",
        "宛先のメールアドレスが見つかりません",
        "該当するユーザーはいません",
        "そのようなユーザーは存在しません",
        "존재하지 않는 사용자",
        "수신자를 찾을 수 없습니다",
        "Uživatel neexistuje",
        "Neznámý příjemce",
        "Användaren finns inte",
        "Okänd mottagare",
        "Ukendt modtager",
        "Brukeren finnes ikke",
        "Vastaanottajaa ei löydy",
        "Böyle bir kullanıcı yok",
        "A felhasználó nem létezik",
        "Ismeretlen címzett",
    ),
    BounceClass.MAILBOX_FULL: (
        "Das Postfach ist voll",
        "Speicherplatz des Empfaengers erschoepft",
        "Postfach des Empfängers überfüllt",
        "Boîte aux lettres pleine",
        "quota du destinataire dépassé",
        "Buzón de correo lleno",
        "Ha superado la cuota de almacenamiento",
        "La casella di posta è piena",
        "Caixa de correio cheia",
        "Quota excedida",
        "Mailbox vol",
        "Postvak is vol",
        "Skrzynka pelna",
        "Przekroczono limit pojemnosci skrzynki",
        "Почтовый ящик заполнен",
        "Превышена квота",
        "邮箱空间已满",
        "收件人邮箱容量已满",
        "信箱已滿",
        "メールボックスの容量を超えています",
        "メールボックスがいっぱいです",
        "메일함 용량 초과",
        "Schránka je plná",
        "Brevlådan är full",
        "Postkassen er fuld",
        "Posta kutusu dolu",
        "Postafiók megtelt",
    ),
    BounceClass.MAILBOX_DISABLED: (
        "Das Konto ist gesperrt",
        "Postfach deaktiviert",
        "Compte suspendu",
        "Boite desactivee",
        "Cuenta suspendida",
        "Account sospeso",
        "Casella disabilitata",
        "Conta bloqueada",
        "Usuário bloqueado",
        "Konto zablokowane",
        "Skrzynka nieaktywna",
        "Почтовый ящик заблокирован",
        "Аккаунт отключен",
        "帐号已停用",
        "用户被锁定",
        "アカウントは停止されています",
    ),
    BounceClass.INVALID_DOMAIN: (
        "Domain existiert nicht",
        "Le domaine n'existe pas",
        "El dominio no existe",
        "Dominio inesistente",
        "Домен не существует",
        "域名不存在",
    ),
    BounceClass.MESSAGE_TOO_LARGE: (
        "Nachricht zu groß",
        "Message trop volumineux",
        "El mensaje es demasiado grande",
        "Messaggio troppo grande",
        "Mensagem muito grande",
        "Bericht te groot",
        "Wiadomosc jest zbyt duza",
        "Сообщение слишком большое",
        "邮件太大",
        "邮件大小超过限制",
    ),
    BounceClass.CONTENT: (
        "Nachricht als Spam eingestuft",
        "Spam verdächtig, abgelehnt als Spam",
        "Mensaje rechazado por spam",
        "Messaggio identificato come spam",
        "Wiadomosc zostala uznana za spam",
        "Сообщение похоже на спам",
        "该邮件被判定为垃圾邮件",
    ),
    BounceClass.RATE_LIMITED: (
        "Zu viele Verbindungen",
        "Demasiadas conexiones",
        "Troppe connessioni",
        "Слишком много соединений",
        "连接数超过限制",
        "发送频率过高",
    ),
    BounceClass.REPUTATION_BLOCK: (
        "Ihre IP-Adresse ist gesperrt",
        "Votre adresse IP est bloquée",
        "Su IP esta en lista negra",
        "IP na czarnej liscie",
        "Ваш IP адрес заблокирован",
        "您的IP被列入黑名单",
    ),
    BounceClass.NETWORK: ("Verbindung abgelehnt",),
}


@pytest.mark.parametrize(
    ("expected", "text"), [(means, text) for means, texts in REPLIES.items() for text in texts]
)
def test_refusal_in_another_language_is_understood(expected: BounceClass, text: str) -> None:
    assert expected == judge(550, "", text).bounce_class


def test_noun_and_state_of_different_sentences_are_no_pair() -> None:
    assert read_foreign("das postfach ist bekannt. der server ist voll") is None


@pytest.mark.parametrize(
    "text",
    [
        "please contact the administrator of this system",
        "the full text of this message is below",
        "invalid argument",
        "volume of mail",
        "this account may not be used",
    ],
)
def test_english_is_never_taken_for_another_language(text: str) -> None:
    assert read_foreign(text) is None


def test_unknown_user_in_answer_to_mail_speaks_of_the_sender() -> None:
    verdict = judge(550, "", "Usuario no encontrado", command="MAIL")
    assert verdict.bounce_class is BounceClass.POLICY_REJECT


@pytest.mark.parametrize(
    ("expected", "text"),
    [("empfanger uzytkownik", "empfänger użytkownik"), ("не найден", "не найден")],
)
def test_latin_letters_lose_their_marks_and_others_stay(expected: str, text: str) -> None:
    assert expected == without_marks(text)
