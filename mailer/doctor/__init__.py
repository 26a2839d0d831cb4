"""`mailer doctor`: will mail from here arrive?

`examine` yields one `Finding` after the other: about the DNS records of the author's domain, of the bounce
domain and of the signing keys; about the relays, the web pages, this machine and its database. Each finding
has a remedy and, where it is a matter of DNS, the record to publish.
"""

from mailer.doctor.examination import examine
from mailer.doctor.findings import Finding, Level
from mailer.doctor.names import Names

__all__ = ["Finding", "Level", "Names", "examine"]
