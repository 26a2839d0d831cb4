"""Domains, right and wrong, and what the doctor says about each."""

from __future__ import annotations

from dataclasses import dataclass, field

KEY = "{KEY}"
"""In records: the base64 of the public key that mailer signs with."""
OTHER_KEY = "{OTHER}"
ALLOWED = "ok: allows relay.right.test (192.0.2.1)"
UNFIT = "problem: the published key is not the one that mailer signs with, so every signature fails"
ALL = "replies, bounces and requests to unsubscribe"
NO_MX = "warning: The domain for rua email address dmarc@@ has no MX records"

RIGHT = {
    "spf": '@ IN TXT "v=spf1 include:_spf.provider.test a:relay.right.test -all"',
    "dkim": f'mailer._domainkey IN TXT "v=DKIM1; k=rsa; p={KEY}"',
    "dmarc": '_dmarc IN TXT "v=DMARC1; p=reject; rua=mailto:dmarc@@"',
    "mx": "@ IN MX 10 mail",
    "mail": "mail IN A 192.0.2.25",
}
"""The records of a domain where all is well; `@` is the domain."""

FINE = {
    "spf": ["ok: one valid record, 2 of 10 lookups", ALLOWED],
    "dkim": ["ok: the published key fits the private one (RSA, 2048 bits)"],
    "dmarc": ["ok: the policy is reject"],
    "alignment": ["ok: DKIM (d=@) aligns with From:, and so does SPF (envelope @)"],
    "mx": [f"ok: {ALL} go to mail.@"],
    "mta-sts": ["ok: not published (optional: it protects mail on its way to you)"],
    "tls-rpt": ["ok: not published (optional: others report failures of TLS on the way to you)"],
    "bimi": ["ok: not published (optional: a logo beside your messages)"],
}
"""What the doctor says about it, by check."""


@dataclass(frozen=True)
class Zone:
    """A domain with the records and findings that differ from the right ones."""

    name: str
    records: dict[str, str] = field(default_factory=dict)
    findings: dict[str, list[str]] = field(default_factory=dict)
    config: str = ""
    relay: str = "relay.right.test"
    signing: str = "@"
    """The domain of the DKIM key; empty for none."""

    @property
    def domain(self) -> str:
        return f"{self.name}.test"

    def lines(self) -> list[str]:
        """Return the zone file: `@` is replaced, and names are made absolute."""
        texts = {**RIGHT, **self.records}.values()
        return [line for text in texts for line in text.splitlines()]

    def expected(self) -> dict[str, list[str]]:
        """Return all findings, by check."""
        merged = {**FINE, **self.findings}
        return {check: [self.absolute(line) for line in lines] for check, lines in merged.items()}

    def absolute(self, text: str) -> str:
        """Return a text with the domain for each `@`, and `@` for `@@`."""
        return text.replace("@@", "\0").replace("@", self.domain).replace("\0", f"@{self.domain}")


OTHERS = """\
relay.right.test. 3600 IN A 192.0.2.1
_spf.provider.test. 3600 IN TXT "v=spf1 ip4:203.0.113.0/24 -all"
amazonses.com. 3600 IN TXT "v=spf1 ip4:198.51.100.0/24 -all"
""" + "".join(f'l{n}.lookups.test. 3600 IN TXT "v=spf1 ip4:203.0.113.{n} -all"\n' for n in range(12))


def _includes(number: int) -> str:
    return " ".join(f"include:l{n}.lookups.test" for n in range(number))


ZONES = [
    Zone("right"),
    Zone(
        "spf-missing",
        {"spf": ""},
        {"spf": ["problem: no SPF record, so receivers cannot tell which servers may send for this domain"]},
    ),
    Zone(
        "spf-twice",
        {"spf": '@ IN TXT "v=spf1 a -all"\n@ IN TXT "v=spf1 mx -all"'},
        {"spf": ["problem: 2 SPF records; receivers treat more than one as an error (RFC 7208 section 3.2)"]},
    ),
    Zone(
        "spf-lookups",
        {"spf": f'@ IN TXT "v=spf1 a:relay.right.test {_includes(10)} -all"'},
        {
            "spf": [
                "problem: the SPF record needs 11 lookups; receivers stop after 10",
                ALLOWED,
            ]
        },
    ),
    Zone(
        "spf-nine",
        {"spf": f'@ IN TXT "v=spf1 a:relay.right.test {_includes(8)} -all"'},
        {
            "spf": [
                "warning: the SPF record needs 9 of 10 lookups",
                ALLOWED,
            ]
        },
    ),
    Zone(
        "spf-syntax",
        {"spf": '@ IN TXT "v=spf1 ip4:1.2.3 -all"'},
        {"spf": ["problem: the SPF record is invalid: 1.2.3 is not a valid IPv4 value"]},
    ),
    Zone(
        "spf-all",
        {"spf": '@ IN TXT "v=spf1 a:relay.right.test +all"'},
        {"spf": ["problem: the SPF record ends in +all: anyone may send in your name", ALLOWED]},
    ),
    Zone(
        "spf-neutral",
        {"spf": '@ IN TXT "v=spf1 a:relay.right.test ?all"'},
        {"spf": ["warning: the SPF record does not end in -all or ~all, so it rules nobody out", ALLOWED]},
    ),
    Zone(
        "spf-relay",
        {"spf": '@ IN TXT "v=spf1 ip4:192.0.2.128/25 -all"'},
        {
            "spf": [
                "ok: one valid record, 0 of 10 lookups",
                "warning: does not allow 192.0.2.1, the address of relay.right.test",
            ]
        },
    ),
    Zone(
        "spf-redirect",
        {"spf": '@ IN TXT "v=spf1 redirect=right.test"'},
        {"spf": ["ok: one valid record, 3 of 10 lookups", ALLOWED]},
    ),
    Zone(
        "spf-network",
        {"spf": '@ IN TXT "v=spf1 ip4:192.0.2.0/25 ~all"'},
        {"spf": ["ok: one valid record, 0 of 10 lookups", ALLOWED]},
    ),
    Zone(
        "spf-provider",
        {"spf": '@ IN TXT "v=spf1 include:amazonses.com -all"'},
        {
            "spf": [
                "ok: one valid record, 1 of 10 lookups",
                "ok: includes amazonses.com, so email-smtp.eu-west-1.amazonaws.com may send",
            ]
        },
        relay="email-smtp.eu-west-1.amazonaws.com",
    ),
    Zone(
        "spf-no-provider",
        {},
        {
            "spf": [
                "ok: one valid record, 2 of 10 lookups",
                "warning: does not include sendgrid.net, as customers of smtp.sendgrid.net should",
            ]
        },
        relay="smtp.sendgrid.net",
    ),
    Zone("dkim-missing", {"dkim": ""}, {"dkim": ["problem: no key is published"]}),
    Zone(
        "dkim-other", {"dkim": f'mailer._domainkey IN TXT "v=DKIM1; k=rsa; p={OTHER_KEY}"'}, {"dkim": [UNFIT]}
    ),
    Zone("dkim-broken", {"dkim": 'mailer._domainkey IN TXT "v=DKIM1; p=%%%"'}, {"dkim": [UNFIT]}),
    Zone("dkim-kind", {"dkim": f'mailer._domainkey IN TXT "v=DKIM1; k=ed25519; p={KEY}"'}, {"dkim": [UNFIT]}),
    Zone(
        "dkim-revoked",
        {"dkim": 'mailer._domainkey IN TXT "v=DKIM1; p="'},
        {"dkim": ["problem: the published key is revoked (p= is empty)"]},
    ),
    Zone(
        "dkim-test",
        {"dkim": f'mailer._domainkey IN TXT "v=DKIM1; t=y; p={KEY}"'},
        {"dkim": ["warning: the record is marked as a test (t=y), so receivers may ignore signatures"]},
    ),
    Zone(
        "dkim-sha1",
        {"dkim": f'mailer._domainkey IN TXT "v=DKIM1; h=sha1; p={KEY}"'},
        {"dkim": ["problem: the record allows only the hash sha1, and mailer uses sha256"]},
    ),
    Zone(
        "dkim-twice",
        {
            "dkim": f'mailer._domainkey IN TXT "v=DKIM1; p={KEY}"\n'
            f'mailer._domainkey IN TXT "v=DKIM1; p={OTHER_KEY}"'
        },
        {"dkim": ["problem: 2 keys are published under one name; receivers may pick the wrong one"]},
    ),
    Zone(
        "dmarc-missing",
        {"dmarc": ""},
        {"dmarc": ["problem: no DMARC record; Gmail, Yahoo and Microsoft refuse newsletters without one"]},
    ),
    Zone(
        "dmarc-none",
        {"dmarc": '_dmarc IN TXT "v=DMARC1; p=none"'},
        {
            "dmarc": [
                "warning: the policy is none: receivers let others send in your name",
                "warning: nobody receives reports (no rua=)",
            ]
        },
    ),
    Zone(
        "dmarc-broken",
        {"dmarc": '_dmarc IN TXT "v=DMARC1; p=everything"'},
        {
            "dmarc": [
                "problem: the DMARC record is invalid: Tag p must have one of the following values: "
                "none,quarantine,reject - not everything"
            ]
        },
    ),
    Zone(
        "strict",
        {
            "dmarc": '_dmarc IN TXT "v=DMARC1; p=reject; adkim=s; aspf=s; rua=mailto:dmarc@@"',
            "bounce": 'bounce IN MX 10 mail\nbounce IN TXT "v=spf1 a:relay.right.test -all"',
        },
        {
            "spf": ["ok: one valid record, 1 of 10 lookups", ALLOWED],
            "alignment": [
                "ok: DKIM (d=@) aligns with From:, which is enough; SPF (envelope bounce.@) does not"
            ],
            "mx": [
                "ok: replies go to mail.@",
                "ok: bounces and requests to unsubscribe go to mail.@",
            ],
        },
        config='[bounces]\ndomain = "bounce.@"',
    ),
    Zone(
        "unaligned",
        {"dkim": ""},
        {
            "spf": ["ok: one valid record, 2 of 10 lookups", ALLOWED],
            "dkim": ["problem: no key is published"],
            "alignment": [
                "problem: neither the envelope's domain (right.test) nor a DKIM key aligns with From:, "
                "so DMARC fails"
            ],
            "mx": [
                "ok: replies go to mail.@",
                "ok: bounces and requests to unsubscribe go to mail.right.test",
            ],
        },
        config='[bounces]\ndomain = "right.test"',
        signing="elsewhere.test",
    ),
    Zone(
        "spf-alone",
        {},
        {
            "dkim": ["problem: no key is published"],
            "alignment": [
                "warning: DKIM signs for elsewhere.test, which does not align with From:; SPF does"
            ],
        },
        signing="elsewhere.test",
    ),
    Zone(
        "unsigned",
        {},
        {
            "dkim": [
                "warning: mailer does not sign: mail passes DKIM only if your relay signs for your domain"
            ],
            "alignment": ["warning: only SPF aligns with From:, and it fails when mail is forwarded"],
        },
        signing="",
    ),
    Zone(
        "mx-missing",
        {"mx": ""},
        {
            "dmarc": ["ok: the policy is reject", NO_MX],
            "mx": [f"problem: no MX record and no address, so {ALL} cannot arrive"],
        },
    ),
    Zone(
        "mx-null",
        {"mx": "@ IN MX 0 ."},
        {
            "dmarc": ["ok: the policy is reject", NO_MX],
            "mx": [
                f"problem: a null MX (RFC 7505) says that the domain takes no mail, so {ALL} cannot arrive"
            ],
        },
    ),
    Zone(
        "mx-alias",
        {"mx": "@ IN MX 10 alias\nalias IN CNAME mail"},
        {"mx": ["warning: the MX host alias.@ is an alias (CNAME), which RFC 2181 section 10.3 forbids"]},
    ),
    Zone("mx-gone", {"mx": "@ IN MX 10 gone"}, {"mx": ["problem: the MX host gone.@ has no address"]}),
    Zone(
        "mx-implicit",
        {"mx": "@ IN A 192.0.2.25"},
        {
            "dmarc": ["ok: the policy is reject", NO_MX],
            "mx": [f"warning: no MX record; {ALL} go to the domain's own address"],
        },
    ),
    Zone(
        "sts-broken",
        {"sts": '_mta-sts IN TXT "v=STSv1; identity=1;"'},
        {"mta-sts": ["problem: the record is wrong: The MTA-STS record is missing the required id tag"]},
    ),
    Zone(
        "tls-rpt",
        {"rpt": '_smtp._tls IN TXT "v=TLSRPTv1; rua=mailto:tls@@"'},
        {"tls-rpt": ["ok: published"]},
    ),
    Zone(
        "tls-rpt-broken",
        {"rpt": '_smtp._tls IN TXT "v=TLSRPTv1; rua=nowhere"'},
        {"tls-rpt": ["warning: the record is invalid: nowhere is not a valid SMTP TLS Reporting URI"]},
    ),
    Zone(
        "bimi",
        {"bimi": 'default._bimi IN TXT "v=BIMI1; l=https://@/logo.svg; a=https://@/vmc.pem"'},
        {"bimi": ["ok: the logo is https://@/logo.svg, with a certificate"]},
    ),
    Zone(
        "bimi-png",
        {"bimi": 'default._bimi IN TXT "v=BIMI1; l=https://@/logo.png"'},
        {"bimi": ["warning: the logo must be an SVG file under https, not https://@/logo.png"]},
    ),
    Zone(
        "bimi-uncertified",
        {"bimi": 'default._bimi IN TXT "v=BIMI1; l=https://@/logo.svg"'},
        {"bimi": ["warning: there is no certificate (a=), so Gmail and Apple do not show the logo"]},
    ),
    Zone(
        "bimi-without-policy",
        {
            "bimi": 'default._bimi IN TXT "v=BIMI1; l=https://@/logo.svg"',
            "dmarc": '_dmarc IN TXT "v=DMARC1; p=none; rua=mailto:dmarc@@"',
        },
        {
            "dmarc": ["warning: the policy is none: receivers let others send in your name"],
            "bimi": ["warning: without a DMARC policy of quarantine or reject, no provider shows the logo"],
        },
    ),
]
