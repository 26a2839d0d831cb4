"""Refusals in languages other than English, read by grammar: a noun and its problem.

Receivers word such replies freely ("Das Postfach des Empfängers ist voll", "Postfach voll"), so whole
phrases would never be enough. Instead, a pair of stems, one of a noun and one of a state, near each other
in either order, means one class. Latin letters are compared without diacritics, so that `Empfanger` matches
`Empfänger` too; spellings in ASCII such as `Empfaenger` are stems of their own.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from mailer.replies.verdict import BounceClass as B

_MARKS: Final = str.maketrans(
    "äáàâãåąăéèêëęěíìîïıóòôõöøőúùûüůűýÿçćčñńňłśšşșźżžřťțďðğ",
    "aaaaaaaaeeeeeeiiiiiooooooouuuuuuyycccnnnlsssszzzrttddg",
)

# Nouns, by language: German, French, Spanish, Italian, Portuguese, Dutch, Polish, Czech, Scandinavian,
# Finnish, Hungarian, Turkish, Romanian, Russian, Ukrainian, Chinese, Japanese, Korean.
_USER: Final = (
    "postfach empfanger empfaenger benutzer adresse adressat konto mailbox teilnehmer "
    "utilisateur destinataire boite compte usuario destinatario buzon cuenta direccion utente "
    "casella account indirizzo utilizador caixa conta_ endereco gebruiker ontvanger postvak "
    "adres geadresseerde uzytkownik odbiorc skrzynk konta uzivatel prijemce schrank ucet "
    "anvandar mottagar modtager mottaker bruker brevlad postkasse vastaanottaj kayttaj "
    "postilaatik osoite felhasznalo cimzett postafiok kullanici alici posta_kutu hesap "
    "utilizator destinatar casut cont_ пользовател получател адресат ящик адрес аккаунт учетн "
    "абонент користувач одержувач отримувач скриньк 用户 用戶 收件人 收件者 邮箱 郵箱 信箱 "
    "帐号 账号 账户 帳號 地址 ユーザ 宛先 受信者 アドレス アカウント メールボックス "
    "受信箱 사용자 수신자 메일함 메일박스 계정 주소"
)
_QUOTA: Final = "quota cuota kwot speicherplatz limit_ квот 容量 配额 空间 空間"
_DOMAIN: Final = "domain domaine dominio domein domen doman rechnername домен 域名 網域 ドメイン 도메인"
_MESSAGE: Final = (
    "nachricht e-mail message courriel mensaje correo messaggio mensagem bericht wiadomosc "
    "zprava meddelande besked melding viesti uzenet mesaj сообщени письм повідомлен лист 邮件 郵件 "
    "メール 메일"
)
_PEER: Final = (
    "ip_ ip-adresse ip-adres adresse_ip direccion_ip indirizzo_ip адрес_ip 服务器ip 您的ip ip被 ip地址"
)
_LOGIN: Final = (
    "anmeldung authentifizierung authentifi autenticacion autenticazione autenticacao authenticatie "
    "uwierzyteln autentizac autentiser godkendelse tunnistautum hitelesit kimlik_dogrulama autentificare "
    "аутентификац авторизац автентифікац 认证 認證 身份验证 登录 登入 認証 ログイン 인증 로그인"
)
_LINK: Final = (
    "verbindung connexion conexion connession conexao conexiones conexoes verbinding polaczeni "
    "соединени 连接 連接 接続"
)

_SENDER: Final = (
    "absender expediteur emetteur remitente mittente remetente afzender nadawc odesilatel avsandar avsender "
    "lahettaj gonderen felado expeditor отправител відправник 发件人 "
    "發件人 寄件人 发送者 送信者 差出人 보낸_사람 발신자"
)
_OUR: Final = (
    "_ihr_ _ihre_ _ihrer_ _ihres_ _votre_ _vos_ _su_ _sus_ _vostro_ _vostra_ _suo_ _sua_ _seu_ _uw_ _twoj_ "
    "_twoja_ _twoje_ _panstwa_ _vase_ _ditt_ _din_ _teidan_ ваш 您的 あなたの 귀하의"
)

# States.
_NOT_THERE: Final = (
    "unbekannt existiert_nicht nicht_existier ungultig ungueltig nicht_gefunden nicht_vorhanden "
    "gibt_es_nicht kein_solcher keine_solche nicht_bekannt inconnu inexistant n'existe n’existe "
    "introuvable pas_trouve invalide desconocid inexistente inesistente no_existe no_encontrad "
    "no_se_enc no_valid no_es_valid sconosciut non_esiste non_trovat non_valid desconhecid "
    "nao_existe nao_encontrad nao_foi_encontrad invalid onbekend bestaat_niet niet_gevonden "
    "ongeldig nieznan nie_istnieje nie_znalez nieprawidlow nie_ma_tak neexistuje neznam "
    "nenalezen finns_inte okand hittades_inte findes_ikke ukendt finnes_ikke ukjent "
    "eksisterer_ikke ei_loydy tuntemat ei_ole_olemassa nem_letezik ismeretlen nem_talal yok_ "
    "bulunamad gecersiz nu_exista necunoscut не_существ не_найден неизвестн нет_так неверн "
    "недействит отсутствует не_існує не_знайден невідом 不存在 无此 無此 未找到 没有找到 找不到 查无 查無 "
    "无效 無效 不正确 存在しません 存在しない 見つかりません 見つからない 不明 いません "
    "ありません 존재하지 찾을_수 없는"
)
_FULL: Final = (
    "voll_ uberfullt ueberfuellt erschopft erschoepft uberschritten ueberschritten plein "
    "depasse sature lleno_ llena_ excedid superad superat sin_espacio piena_ pieno_ esaurit "
    "cheia_ cheio_ lotad vol_ pelna_ pelny_ przepeln przekrocz plna full_ fuld_ taynna megtelt "
    "dolu plin_ plina_ переполн заполнен превышен переповнен перевищен 已满 已滿 满了 不足 超出"
    " 超过 いっぱい 一杯 超え 満杯 초과 가득"
)
_LOCKED: Final = (
    "gesperrt deaktiviert stillgelegt inaktiv suspendu desactive bloque inactif suspendid "
    "desactivad bloquead inactiv deshabilitad sospes disabilitat disattivat bloccat suspens "
    "desativad inativ geblokkeerd uitgeschakeld opgeheven zablokowan nieaktywn zawieszon "
    "wylaczon zablokov deaktivov sparrad inaktiver заблокирован отключен неактив деактивир "
    "закрыт заблокован 停用 锁定 鎖定 冻结 凍結 禁用 注销 停止 無効 정지 휴면 비활성"
)
_TOO_LARGE: Final = (
    "zu_gro trop_gros trop_grand trop_volum trop_lourd demasiado_grande excede_el_tamano "
    "troppo_grande muito_grande te_groot zbyt_duz prilis_velk for_stor liian_suuri tul_nagy "
    "cok_buyuk слишком_бол завелик 太大 过大 過大 大小超 大きすぎ 너무_큽 크기_초과"
)
_SPAM: Final = (
    "spam werbung correo_no_deseado pourriel indesirable спам 垃圾 迷惑 スパム 스팸 virus вирус 病毒"
)
_TOO_MANY: Final = (
    "zu_viele zu_haufig zu_schnell trop_de demasiad tropp excesso_de muitas muitos te_veel "
    "zbyt_wiele za_duzo_pola слишком_много слишком_част 过多 過多 频率 頻率 频繁 数超过 多すぎ 너무_많"
)
_BLACK: Final = (
    "gesperrt blockiert bloque bloccat geblokkeerd zablokow zablokov blockerad blokeret blokkert estetty "
    "letilt engellen blocat lista_nera lista_negra liste_noire zwarte_lijst czarn черн "
    "заблокирован блокир 黑名单 黑名單 封禁 拒绝 ブラックリスト ブロック 차단"
)
_REFUSED: Final = (
    "abgelehnt fehlgeschlagen refuse echoue rechazad fallid fallit rifiutat recusad geweigerd odrzucon "
    "отклонен отказ не_удалось 失败 失敗 拒绝 拒否 できません"
)

_NOT_ALLOWED: Final = (
    "nicht_erlaubt nicht_zugelassen nicht_berechtigt nicht_autorisiert nicht_gestattet unzulassig "
    "non_autoris pas_autoris interdit no_autorizad no_permitid non_autorizzat non_consentit nao_autorizad "
    "nao_permitid niet_toegestaan niet_geautoriseerd niedozwol nieuprawn brak_uprawn nepovolen "
    "inte_tillat ikke_tillat ei_sallittu nem_engedelyez izin_veril yetkisiz neautorizat не_разреш не_авториз "
    "запрещен не_дозвол заборонен 不允许 不允許 未授权 未授權 許可されて 허용되지 권한이_없"
)
_FAILED: Final = "echec error_de ошибка_ помилка_ エラー"


def _any_of(*stems: str) -> str:
    """Return a pattern for these stems: `_` matches a blank, or a word boundary at either end."""
    words = sorted(dict.fromkeys(" ".join(stems).split()), key=len, reverse=True)
    return "|".join(_stem(word) for word in words)


def _stem(word: str) -> str:
    pattern = re.escape(word.strip("_").replace("_", " "))
    # Short stems in Latin letters also occur inside other words.
    start = r"\b" if word.startswith("_") or (word.isascii() and len(word) <= 5) else ""
    return rf"{start}{pattern}" + (r"\b" if word.endswith("_") else "")


def _near(nouns: str, states: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{nouns})[^.;!?]{{0,60}}?(?:{states})|(?:{states})[^.;!?]{{0,40}}?(?:{nouns})")


def _in_one_clause(nouns: str, states: str) -> re.Pattern[str]:
    """Like `_near`, but `Benutzer unbekannt, Absender <>` is no pair."""
    return re.compile(
        rf"(?:{nouns})(?: ?<>)?:?[^.,:;!?()|/\n]{{0,60}}?(?:{states})"
        rf"|(?:{states})[^.,:;!?()|/\n<-]{{0,25}}?(?:{nouns})"
    )


@cache
def _ours() -> tuple[tuple[B, re.Pattern[str]], ...]:
    """Return the pairs of stems that refuse something of ours."""
    refused = _any_of(_NOT_THERE, _LOCKED, _BLACK, _REFUSED, _FULL, _NOT_ALLOWED)
    ours = f"(?:{_any_of(_SENDER)})|(?:{_any_of(_OUR)}) ?(?:{_any_of(_USER, _DOMAIN)})"
    return (
        (B.REPUTATION_BLOCK, _in_one_clause(_any_of(_PEER), _any_of(_BLACK, _REFUSED, _NOT_ALLOWED))),
        (B.POLICY_REJECT, _in_one_clause(ours, refused)),
        (B.POLICY_REJECT, _in_one_clause(_any_of(_LOGIN), _any_of(_REFUSED, _NOT_ALLOWED, _FAILED))),
    )


@cache
def _grammar() -> tuple[tuple[B, re.Pattern[str]], ...]:
    """Return the meaning of each pair of stems; built for the first foreign reply, since it is slow."""
    return (
        *_ours(),
        (B.MESSAGE_TOO_LARGE, _near(_any_of(_MESSAGE), _any_of(_TOO_LARGE))),
        (B.RATE_LIMITED, _near(_any_of(_MESSAGE, _LINK, "发送 送信 nachrichten"), _any_of(_TOO_MANY))),
        (B.MAILBOX_FULL, _near(_any_of(_USER, _QUOTA), _any_of(_FULL))),
        (B.MAILBOX_DISABLED, _near(_any_of(_USER), _any_of(_LOCKED))),
        (B.INVALID_DOMAIN, _near(_any_of(_DOMAIN), _any_of(_NOT_THERE))),
        (B.INVALID_MAILBOX, _near(_any_of(_USER), _any_of(_NOT_THERE))),
        (B.CONTENT, _near(_any_of(_MESSAGE, "rechazad abgelehnt rejeitad"), _any_of(_SPAM))),
        (B.NETWORK, _near(_any_of(_LINK), _any_of(_REFUSED))),
    )  # fmt: skip


def read_foreign(text: str) -> B | None:
    """Return the meaning of a refusal in another language, or None; `text` is in lower case."""
    text = without_marks(text)
    return next((means for means, pattern in _grammar() if pattern.search(text)), None)


def refuses_us(text: str) -> bool:
    """Return whether a text in another language refuses something of ours; `text` is in lower case."""
    text = without_marks(text)
    return any(pattern.search(text) for _, pattern in _ours())


def without_marks(text: str) -> str:
    """Return lower-case text without diacritics on Latin letters: `é` as `e`, `ł` as `l`."""
    return text if text.isascii() else text.translate(_MARKS)
