"""Recognise columns by their headings, in many languages and as various services write them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailer.audience.transfer.presets import Preset
from mailer.errors import SourceError

MAX_COLUMNS: Final = 200


def _plain(heading: str) -> str:
    """Return the letters of a heading, without case and accents."""
    folded = unicodedata.normalize("NFKD", heading).casefold()
    return re.sub(r"[\W\d_]", "", "".join(one for one in folded if not unicodedata.combining(one)))


def _headings(*names: str) -> tuple[str, ...]:
    return tuple(map(_plain, names))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_EMAIL: Final = _headings(
    # en, and any service's own
    "email", "emailaddress", "emailadress", "mail", "mailaddress", "address", "subscriberemail", "useremail",
    "contactemail", "primaryemail",
    # de, fr, es, pt, it, nl, ro
    "emailadresse", "mailadresse", "epostadresse", "adresse", "courriel", "adressecourriel", "adressemail",
    "adresseemail", "adresseelectronique", "correo", "correoelectronico", "direcciondecorreo",
    "direcciondecorreoelectronico", "direccionemail", "enderecodeemail", "enderecoeletronico",
    "correioeletronico", "indirizzoemail", "indirizzodiposta", "indirizzodipostaelettronica",
    "postaelettronica", "emailadres", "mailadres", "adresadeemail", "adresaemail",
    # pl, cs, sk, hu, sv, no, da, fi, tr, hr
    "adresemail", "adrespocztyelektronicznej", "emailovaadresa", "emailcim", "epost", "epostadress",
    "sahkoposti", "sahkopostiosoite", "eposta", "epostaadresi",
    # ru, uk, el, zh, ja, ko
    "электроннаяпочта", "адресэлектроннойпочты", "почта", "емеил", "емаил", "електроннапошта",
    "ηλεκτρονικηδιευθυνση", "邮箱", "电子邮件", "电子邮箱", "電子郵件", "メール", "メールアドレス", "이메일",
)  # fmt: skip
_NAME: Final = _headings(
    "name", "fullname", "subscribername", "displayname", "contactname",
    "vollername", "vollstandigername", "nomcomplet", "nombrecompleto", "nomecompleto", "volledigenaam",
    "numecomplet", "полноеимя", "氏名", "名前", "お名前", "姓名", "이름",
)  # fmt: skip
_NAME_PARTS: Final = tuple(_headings(*parts) for parts in (
    ("firstname", "lastname"), ("first", "last"), ("firstname", "surname"), ("fname", "lname"),
    ("givenname", "familyname"), ("vorname", "nachname"), ("vorname", "name"), ("prenom", "nom"),
    ("prenom", "nomdefamille"), ("nombre", "apellidos"), ("nombre", "apellido"), ("nome", "cognome"),
    ("nome", "sobrenome"), ("nome", "apelido"), ("voornaam", "achternaam"), ("prenume", "nume"),
    ("imie", "nazwisko"), ("jmeno", "prijmeni"), ("fornamn", "efternamn"), ("fornavn", "etternavn"),
    ("fornavn", "efternavn"), ("etunimi", "sukunimi"), ("ad", "soyad"), ("имя", "фамилия"),
))  # fmt: skip
_NAME_ALONE: Final = _headings(
    "nom", "nombre", "nome", "naam", "nume", "nazwisko", "nimi", "namn", "navn", "имя", "kundenname",
)  # fmt: skip
_JOINED: Final = _headings(
    "joined", "joinedat", "joindate", "datejoined", "createdat", "created", "creationdate", "datecreated",
    "dateadded", "addedat", "addedon", "optintime", "optindate", "confirmtime", "confirmedat", "signupdate",
    "signupat", "signedupat", "signuptime", "subscribedat", "subscribedon", "subscribeddate", "subscribedate",
    "subscriptiondate", "datesubscribed", "datesubscription", "dateregistered", "registeredat",
    "registrationdate", "startdate",
    "anmeldedatum", "angemeldetam", "angemeldetseit", "anmeldungam", "registriertam", "eingetragenam",
    "erstelltam", "inscritle", "inscritele", "datedinscription", "dateinscription", "abonnele",
    "datedabonnement", "creele", "datedecreation", "fechadealta", "fechaalta", "fechaderegistro",
    "fechadesuscripcion", "suscritoel", "datadiiscrizione", "dataiscrizione", "iscrittoil",
    "datadeinscricao", "datadecadastro", "inscritoem", "aanmelddatum", "aangemeldop", "ingeschrevenop",
    "datazapisu", "datarejestracji", "datumregistrace", "datainscrierii", "inscrisla", "dataabonarii",
    "датаподписки", "датарегистрации", "登録日", "注册时间", "订阅时间",
)  # fmt: skip
# Headings that mean an opt-out or a bounce; any value but "no" counts as one.
_LEFT_PREFIXES: Final = _headings(
    "unsub", "optout", "optedout", "cleantime", "cleaned", "cleancampaign", "bounce", "hardbounce",
    "complain", "blocklist", "blacklist", "suppress", "deletedat", "removedat", "emaildisabled",
    "globalunsub",
    "abgemeldet", "abmelde", "abmeldung", "ausgetragen", "gesperrt", "desinscri", "desabonn", "desuscri",
    "fechadebaja", "fechabaja", "dadodebaja", "cancelado", "disiscri", "disattiv", "descadastr", "desinscrit",
    "uitgeschreven", "afgemeld", "uitschrijf", "wypisan", "dezabona", "odhlas", "leiratkoz", "avregistrer",
    "avmeld", "frameld", "afmeld", "отписа", "退订", "配信停止", "수신거부",
)  # fmt: skip
# Headings that always mean a status, and headings that may also mean a place or a kind.
_STATUS: Final = _headings(
    "status", "statut", "subscriptionstatus", "subscriberstatus", "emailstatus", "memberstatus",
    "contactstatus", "marketingstatus", "emailmarketingstatus", "subscribed", "issubscribed", "isactive",
    "active", "enabled", "subscribedtoemails", "acceptsmarketing", "acceptsemailmarketing",
    "emailsubscriptionstatus", "emailmarketingconsent", "situacao", "stare", "статус", "ステータス", "状态",
    "상태",
)  # fmt: skip
_MAYBE_STATUS: Final = _headings(
    "state", "estado", "stato", "stav", "stan", "stand", "type", "subscribertype", "tila"
)
# Values for people who are still subscribed, and for people who are not.
_STAYED: Final = _words(
    """
    active subscribed enabled confirmed yes true 1 regular premium member free paid comped opted-in
    optin opt-in optedin aktiv angemeldet ja bestätigt abonniert actif active abonné abonnée inscrit
    inscrite oui activo activa suscrito suscrita sí si attivo attiva iscritto iscritta sì ativo ativa
    inscrito inscrita sim actief ingeschreven aktywny tak activ activă abonat abonată da aktivní ano
    активен подписан да 有効 購読中 订阅 活跃
    """
)
_NOT_LEFT: Final = _words(
    """
    no false 0 nein non nee nie nu ne нет n - never none null
    """
)
LEFT_WORDS: Final = _words(
    """
    unsubscribed unsubscribe cleaned bounced hard-bounced bounce complained complaint spam blocklisted
    blacklisted blocked suppressed undeliverable disabled inactive removed deleted opted-out optout opt-
    out nonsubscribed non-subscribed archived unactivated unconfirmed pending cancelled canceled left
    abgemeldet inaktiv unzustellbar gesperrt gekündigt désabonné désabonnée désinscrit désinscrite
    inactif baja cancelado inactivo rebotado disiscritto inattivo descadastrado inativo uitgeschreven
    inactief wypisany nieaktywny dezabonat inactiv odhlášen отписан отписался неактивен 退订 配信停止
    """
)
_BOUNCED_WORDS: Final = _words(
    """
    cleaned bounced hard-bounced bounce undeliverable unzustellbar rebotado
    """
)
_COMPLAINED_WORDS: Final = _words(
    """
    complained complaint spam
    """
)
_UNCONFIRMED_WORDS: Final = _words(
    """
    unactivated unconfirmed pending
    """
)
_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Columns:
    """The heading of a file and the meaning of its columns."""

    line: int
    header: tuple[str, ...]
    email: str
    name: tuple[str, ...]
    joined: str
    """The column of sign-up dates, or empty."""
    attributes: tuple[tuple[str, str], ...]
    """Column and name of each attribute."""
    doubtful: tuple[str, ...]
    """Columns that seem to say who opted out, but have no configured meaning."""


def columns_of(path: Path, line: int, header: Sequence[str], preset: Preset, *, own: bool = False) -> Columns:
    """Return the meaning of the columns; raise `SourceError` for a heading that cannot be used.

    In our `own` exports no column is doubtful.
    """
    header = tuple(name.strip() for name in header)
    _check(path, line, header, preset)
    plain = {_plain(name): name for name in reversed(header) if name}
    email = _email(path, line, header, plain, preset)
    name = (preset.name,) if preset.name and preset.name in header else _name(plain)
    special = {preset.tags, preset.attributes, *preset.columns, *preset.ignored, email, *name}
    joined = _joined(header, plain, preset, special)
    others = [one for one in dict.fromkeys(header) if one and one not in special and one != joined]
    unnamed = [] if own else [one for one in others if one not in preset.renamed]
    doubtful = tuple(filter(may_say_who_left, unnamed))
    return Columns(
        line=line,
        header=header,
        email=email,
        name=name,
        joined=joined,
        attributes=tuple(
            (column, preset.renamed.get(column, column))
            for column in others
            if column not in doubtful or may_be_attribute(column)
        ),
        doubtful=doubtful,
    )


def _email(path: Path, line: int, header: Sequence[str], plain: Mapping[str, str], preset: Preset) -> str:
    """Return the column with the address; raise `SourceError` if there is none."""
    if preset.email and preset.email in header:
        return preset.email
    if email := next((plain[known] for known in _EMAIL if known in plain), None):
        return email
    if any("@" in name for name in header):
        raise SourceError(
            f"{path}:{line}: the first line is a row, not a heading",
            remedy="put a heading above it, such as: email",
        )
    raise SourceError(
        f"{path}:{line}: no column looks like the address",
        remedy=f"add --map email=COLUMN; the columns are: {', '.join(filter(None, header))}",
    )


def _joined(header: Sequence[str], plain: Mapping[str, str], preset: Preset, special: Collection[str]) -> str:
    """Return the column of sign-up dates, or empty."""
    if preset.joined and preset.joined in header:
        found = preset.joined
    else:
        found = next((plain[one] for one in _JOINED if one in plain and plain[one] not in special), "")
    return "" if found in preset.renamed else found


def _check(path: Path, line: int, header: Sequence[str], preset: Preset) -> None:
    harmless = preset.ignored | preset.columns
    if twice := next(
        (name for name in header if name and header.count(name) > 1 and name not in harmless), None
    ):
        raise SourceError(
            f"{path}:{line}: two columns are called '{twice}'", remedy="rename or remove one of them"
        )
    if len(header) > MAX_COLUMNS:
        raise SourceError(f"{path}:{line}: has {len(header)} columns; {MAX_COLUMNS} are allowed")
    for wanted in sorted(preset.required):
        if wanted not in header:
            raise SourceError(
                f"{path}:{line}: there is no column '{wanted}'",
                remedy=f"the columns are: {', '.join(filter(None, header))}",
            )
    if preset.one_of and not preset.one_of.intersection(header):
        raise SourceError(
            f"{path}:{line}: there is no column '{min(preset.one_of)}', so the file does not show who left",
            remedy="export the file again with that column",
        )


def _name(plain: dict[str, str]) -> tuple[str, ...]:
    """Return the columns of the name: one column, or first and last name."""
    for parts in _NAME_PARTS:
        if all(part in plain for part in parts):
            return tuple(plain[part] for part in parts)
    whole = next((plain[known] for known in _NAME if known in plain), None)
    if whole is not None:
        return (whole,)
    first = next((plain[parts[0]] for parts in _NAME_PARTS if parts[0] in plain), None)
    alone = next((plain[known] for known in _NAME_ALONE if known in plain), first)
    return () if alone is None else (alone,)


def may_say_who_left(column: str) -> bool:
    """Return whether a column may say who opted out, judged by its heading."""
    plain = _plain(column)
    return plain in _STATUS or plain in _MAYBE_STATUS or plain.startswith(_LEFT_PREFIXES)


def may_be_attribute(column: str) -> bool:
    """Return whether such a column is an ordinary attribute if its values say that nobody opted out."""
    return _plain(column) in _MAYBE_STATUS


def says_who_left(column: str, values: Sequence[str]) -> bool:
    """Return whether any of these values says that someone opted out."""
    plain = _plain(column)
    words = {value.strip().casefold() for value in values} - {""}
    if plain in _MAYBE_STATUS:
        return bool(words & LEFT_WORDS)
    if plain in _STATUS:
        return bool(words - _STAYED)
    return bool(words - _NOT_LEFT)


def refuse(path: Path, line: int, counted: dict[str, dict[str, int]], *, named: str) -> SourceError:
    """Return the error about columns that seem to say who opted out, with their values and a remedy.

    `named` is the name for the preset in config.toml.
    """
    shown: list[str] = []
    flags: list[str] = []
    tables: list[str] = []
    for column, counts in counted.items():
        shown.append(f"  {column}:")
        most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        shown += [f"    {number:>9,}  {value[:60]}" for value, number in most[:_SHOWN]]
        if len(most) > _SHOWN:
            shown.append(f"    … and {len(most) - _SHOWN} other values")
        if _plain(column) in (*_STATUS, *_MAYBE_STATUS):
            tables += _table(column, list(counts), named)
        else:
            word = (
                "bounced" if _plain(column).startswith(("bounce", "hardbounce", "clean")) else "unsubscribed"
            )
            flags.append(f'--map {word}="{column}"')
    listed = ", ".join(f"'{column}'" for column in counted)
    remedy = "configure its meaning"
    if flags:
        remedy += f": add {' '.join(flags)}"
    if tables:
        joiner = ", and add" if flags else ": add"
        remedy += f"{joiner} to config.toml, then import with --preset {named}:\n  " + "\n  ".join(tables)
    known = "or use the --preset of the service that wrote the file, or --skip the column if nobody opted out"
    return SourceError(
        f"{path}:{line}: {listed} seems to say who opted out, but its meaning is not configured; "
        "nothing was imported\n" + "\n".join(shown),
        remedy=f"{remedy}\n({known})",
    )


def _table(column: str, values: Sequence[str], named: str) -> list[str]:
    """Return lines for config.toml that give a status column its meaning, as a best guess."""
    sorted_out: dict[str, list[str]] = {
        "unsubscribed": [],
        "bounced": [],
        "complained": [],
        "unconfirmed": [],
    }
    for value in values[:50]:
        word = value.strip().casefold()
        if word in _STAYED:
            continue
        if word in _BOUNCED_WORDS:
            sorted_out["bounced"].append(value)
        elif word in _COMPLAINED_WORDS:
            sorted_out["complained"].append(value)
        elif word in _UNCONFIRMED_WORDS:
            sorted_out["unconfirmed"].append(value)
        else:
            sorted_out["unsubscribed"].append(value)
    lines = [f"[imports.{named}]", f"status = {_quoted(column)}"]
    return lines + [
        f"{key} = [{', '.join(map(_quoted, words))}]" for key, words in sorted_out.items() if words
    ]


def _quoted(text: str) -> str:
    return '"' + text[:60].replace("\\", "\\\\").replace('"', '\\"') + '"'
