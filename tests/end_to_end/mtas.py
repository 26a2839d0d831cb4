"""OpenSMTPD and Exim, each in a root of its own, and Postfix: with TLS, login, and mailboxes to look into.

Debian lets only one mail server be installed, so the other two are unpacked, not installed, and run
where their fixed paths and accounts are theirs alone. Each takes mail for example.com on three ports:
in the clear, with STARTTLS and with TLS from the start; the last two ask for a login. OpenSMTPD has the
first alone: as Debian 12 ships it, the process that keeps its key cannot sign with OpenSSL 3, and every
handshake fails with any client.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from mailer.config import Relay, Security, section
from tests.end_to_end.mailservers import QUEUES, folder_for_servers, running, wait_for_port
from tests.ports import free_ports
from tests.programs import missing, program

USER, PASSWORD = "writer", "a-word"
UNPACKED = Path(__file__).parents[1] / "install" / "unpacked"
_OPENSMTPD = """\
listen on 127.0.0.1 port {plain} hostname mx.example.net
action "keep" maildir "/mail" user nobody virtual {{ "@" = nobody }}
match from any for domain "example.com" action "keep"
"""
_EXIM = """\
primary_hostname = mx.example.net
daemon_smtp_ports = {plain} : {starttls} : {tls}
tls_on_connect_ports = {tls}
local_interfaces = 127.0.0.1
spool_directory = /spool
log_file_path = /log/%s
tls_advertise_hosts = *
tls_certificate = /etc/cert.pem
tls_privatekey = /etc/key.pem
pipelining_advertise_hosts = {pipelining}
pipelining_connect_advertise_hosts =
chunking_advertise_hosts =
smtputf8_advertise_hosts = *
rfc1413_query_timeout = 0s
host_lookup =
keep_environment =
smtp_accept_queue_per_connection = 0
acl_smtp_rcpt = check
begin acl
check:
  deny condition = ${{if !eq{{$received_port}}{{{plain}}}}}
       !authenticated = *
       message = log in first
  accept domains = example.com
  deny message = no relaying
begin routers
keep:
  driver = accept
  transport = keep
begin transports
keep:
  driver = appendfile
  directory = /mail/new
  create_directory = false
  maildir_format = false
  mailstore_format = false
  directory_file = $message_exim_id
  envelope_to_add = true
  user = nobody
  group = nogroup
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""
_POSTFIX = """\
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.net
mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = reject_unauth_destination
smtpd_peername_lookup = no
in_flow_delay = 0
local_recipient_maps =
alias_maps =
virtual_mailbox_domains = example.com
virtual_mailbox_base = {mail}
virtual_mailbox_maps = regexp:{folder}/everybody
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_transport = virtual
smtpd_tls_cert_file = {folder}/cert.pem
smtpd_tls_key_file = {folder}/key.pem
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{sasl}
smtpd_discard_ehlo_keywords = {discarded}
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
"""
_MASTER = """\
127.0.0.1:{plain} inet n - n - - smtpd
127.0.0.1:{starttls} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt -o smtpd_sasl_auth_enable=yes
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
127.0.0.1:{tls} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes -o smtpd_sasl_auth_enable=yes
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""
_SASL = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols =
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {sasl}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Mta:
    """A mail server that runs: its ports by the kind of protection, and what it keeps."""

    name: str
    ports: dict[Security, int]
    certificate: Path
    mail: Path
    pipelines: bool
    """Whether it announces PIPELINING."""

    def relay(self, security: Security = Security.PLAIN, **options: object) -> Relay:
        """Return the relay that our side is configured with."""
        login = {} if security is Security.PLAIN else {"user": USER, "password": PASSWORD}
        settings = {"host": "127.0.0.1", "port": self.ports[security], "security": security}
        return section(Relay, {**settings, **login, **options})

    def kept(self, number: int) -> list[bytes]:
        """Return what was kept, once there are so many and no more come."""
        new, until = self.mail / "new", time.monotonic() + 60
        while len(list(new.iterdir())) < number:
            assert time.monotonic() < until, f"{self.name} kept {len(list(new.iterdir()))} of {number}"
            time.sleep(0.1)
        time.sleep(0.5)
        return [path.read_bytes() for path in new.iterdir()]

    def forget(self) -> None:
        """Throw away what was kept."""
        for path in (self.mail / "new").iterdir():
            path.unlink()


@contextlib.contextmanager
def postfix(*, pipelining: bool = True) -> Iterator[Mta]:
    """Run Postfix, with Dovecot behind it for the logins."""
    dovecot, master = program("dovecot"), Path("/usr/lib/postfix/sbin/master")
    _need_root(master)
    with _ready() as (folder, mail, ports):
        (sasl,) = free_ports(1)
        nobody = pwd.getpwnam("nobody")
        _write_certificate(folder)
        values: dict[str, object] = {
            "folder": folder, "mail": mail, "uid": nobody.pw_uid, "gid": nobody.pw_gid, "sasl": sasl,
            "discarded": "" if pipelining else "pipelining", "password": PASSWORD,
        }  # fmt: skip
        owner = pwd.getpwnam("postfix")
        for name in (*(f"spool/{queue}" for queue in QUEUES), "data"):
            (folder / name).mkdir(parents=True)
            os.chown(folder / name, 0 if name == "spool/pid" else owner.pw_uid, owner.pw_gid)
        (folder / "etc").mkdir()
        (folder / "etc" / "main.cf").write_text(_POSTFIX.format(**values))
        (folder / "etc" / "master.cf").write_text(_MASTER.format(**_named(ports)))
        (folder / "everybody").write_text("/@example.com$/ ./\n")
        (folder / "dovecot.conf").write_text(_SASL.format(**values))
        with (
            running([dovecot, "-F", "-c", str(folder / "dovecot.conf")], folder / "dovecot.log"),
            running([str(master), "-c", str(folder / "etc"), "-d"], folder / "log"),
        ):
            yield _answering(Mta("Postfix", ports, folder / "cert.pem", mail, pipelining), folder / "log")


@contextlib.contextmanager
def opensmtpd() -> Iterator[Mta]:
    """Run OpenSMTPD, which announces no PIPELINING."""
    _need_root(UNPACKED / "opensmtpd")
    with _ready() as (folder, mail, every_port):
        ports = {Security.PLAIN: every_port[Security.PLAIN]}
        root = folder / "root"
        binaries = ["usr/sbin/smtpd", *(f"usr/libexec/opensmtpd/mail.{x}" for x in ("maildir", "mda"))]
        _make_root(root, UNPACKED / "opensmtpd", binaries, ("opensmtpd", "opensmtpq"))
        for name, mode in (("var/lib/opensmtpd/empty", 0o755), ("var/spool/smtpd", 0o711), ("run", 0o755)):
            (root / name).mkdir(parents=True)
            (root / name).chmod(mode)
        os.symlink("../run", root / "var" / "run")
        (root / "etc" / "smtpd.conf").write_text(_OPENSMTPD.format(**_named(ports)))
        (root / "etc" / "smtpd.conf").chmod(0o600)
        os.rename(mail, root / "mail")
        with running(["chroot", str(root), "/usr/sbin/smtpd", "-d", "-f", "/etc/smtpd.conf"], folder / "log"):
            made = Mta("OpenSMTPD", ports, root / "etc/cert.pem", root / "mail", pipelines=False)
            yield _answering(made, folder / "log")


@contextlib.contextmanager
def exim(*, pipelining: bool = True) -> Iterator[Mta]:
    """Run Exim."""
    _need_root(UNPACKED / "exim")
    with _ready() as (folder, mail, ports):
        root = folder / "root"
        _make_root(root, UNPACKED / "exim", ["usr/sbin/exim4"], ("Debian-exim",))
        for name in ("spool", "log", "var/lib/exim4"):
            (root / name).mkdir(parents=True)
            os.chown(root / name, 901, 901)
        values = {
            **_named(ports),
            "pipelining": "*" if pipelining else "",
            "user": USER,
            "password": PASSWORD,
        }
        os.chown(root / "etc/key.pem", 901, 901)
        (root / "var/lib/exim4/config.autogenerated").write_text(_EXIM.format(**values))
        os.rename(mail, root / "mail")
        with running(["chroot", str(root), "/usr/sbin/exim4", "-bdf", "-q1m"], folder / "log"):
            made = Mta("Exim", ports, root / "etc/cert.pem", root / "mail", pipelining)
            yield _answering(made, folder / "log", root / "log/main")


EVERY: Final[dict[str, Callable[[], contextlib.AbstractContextManager[Mta]]]] = {
    "Postfix": postfix,
    "Postfix without PIPELINING": lambda: postfix(pipelining=False),
    "OpenSMTPD": opensmtpd,
    "Exim": exim,
    "Exim without PIPELINING": lambda: exim(pipelining=False),
}
PROTECTED: Final = [name for name in EVERY if name != "OpenSMTPD"]
"""Those that take TLS and a login here."""


def _need_root(path: Path) -> None:
    if os.geteuid() != 0 or not path.exists():
        missing(f"root, or {path.name} (make servers),")


@contextlib.contextmanager
def _ready() -> Iterator[tuple[Path, Path, dict[Security, int]]]:
    """Yield a folder, a Maildir that anybody may write to, and three ports."""
    with folder_for_servers("mailer-mta") as name:
        mail = Path(name) / "mail"
        for part in ("new", "cur", "tmp"):
            (mail / part).mkdir(parents=True)
            (mail / part).chmod(0o777)
        mail.chmod(0o777)
        yield Path(name), mail, dict(zip(Security, free_ports(3), strict=True))


def _named(ports: dict[Security, int]) -> dict[str, object]:
    return {security.value: port for security, port in ports.items()}


def _answering(mta: Mta, *logs: Path) -> Mta:
    for port in mta.ports.values():
        wait_for_port(port, logs)
    return mta


def _make_root(root: Path, unpacked: Path, binaries: list[str], accounts: tuple[str, ...]) -> None:
    """Make a root directory that holds these programs, the libraries they load, and these accounts."""
    for name in ("etc", "dev", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "dev" / "null").touch(0o666)
    (root / "dev" / "null").chmod(0o666)
    for source in (*(unpacked / binary for binary in binaries), Path("/bin/sh").resolve()):
        inside = source.relative_to(unpacked) if source.is_relative_to(unpacked) else Path("bin/sh")
        target = root / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        loaded = subprocess.run(["ldd", str(source)], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"(/\S+) \(0x", loaded):
            copy = root / library.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists():
                shutil.copy2(library, copy)
    people = [("root", 0), *((name, 901 + number) for number, name in enumerate(accounts)), ("nobody", 65534)]
    (root / "etc/passwd").write_text("".join(f"{name}:x:{n}:{n}::/:/bin/false\n" for name, n in people))
    groups = [*people, ("nogroup", 65533)]
    (root / "etc/group").write_text("".join(f"{name}:x:{n}:\n" for name, n in groups))
    (root / "etc/hosts").write_text("127.0.0.1 localhost mx.example.net\n")
    (root / "etc/mailname").write_text("mx.example.net\n")
    (root / "etc/aliases").touch()
    _write_certificate(root / "etc")


def _write_certificate(folder: Path) -> None:
    """Write cert.pem and key.pem for 127.0.0.1, trusted by clients that trust cert.pem."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.example.net")])
    at = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(days=1))
        .not_valid_after(at + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / "key.pem").chmod(0o600)
