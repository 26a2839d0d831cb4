"""A newsletter that can be sent, and changes that stop it: text, replacement, place, message, stops."""

from __future__ import annotations

READY = """\
[newsletter]
author_address = "ana@example.org"
postal_address = "1 Road"
[web]
public_url = "https://news.example.org"
[relays.main]
host = "smtp.example.org"
user = "ana"
password_file = "secret"
# more
"""

CASES = [
    (('postal_address = "1 Road"', ""), "default", "CAN-SPAM", True),
    (("https://news.example.org", "http://news.example.org"), "config.toml:5", "RFC 8058", True),
    (("https://news.example.org", "https://127.0.0.1"), "config.toml:5", "cannot unsubscribe", True),
    (('password_file = "secret"', ""), "config.toml:8", "a user but no password", True),
    (('user = "ana"', ""), "config.toml:7", "a password but no user", True),
    (('"secret"', '"gone"'), "config.toml:9", "password_file gone", True),
    (('"secret"', '"empty"'), "config.toml:9", "the password is empty", True),
    (("# more", "[segments]\nfans = 'tag:'"), "config.toml:11", "'segments.fans'", True),
    (
        ("# more", "[[dkim]]\ndomain = 'example.org'\nselector = 's'\nkey_file = 'gone.pem'"),
        "config.toml:10",
        "gone.pem: cannot read the DKIM key",
        True,
    ),
    (("# more", "[bounces]\nmaildirs = ['gone']"), "config.toml:11", "is not a Maildir", True),
    (
        (
            "# more",
            "[[bounces.boxes]]\nhost = 'imap.example.org'\nuser = 'b'\npassword_file = 'gone'",
        ),
        "config.toml:10",
        "password_file gone",
        True,
    ),
    (("# more", "[paths]\ntemplates = 'gone'"), "config.toml:11", "there is no such template", True),
    (
        ("# more", "[paths]\nissues = 'gone'\ntemplates = 'email_templates'"),
        "config.toml:11",
        "no such folder",
        False,
    ),
]
