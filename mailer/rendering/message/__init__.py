"""The bytes of one message, composed from an edition for one recipient."""

from __future__ import annotations

from mailer.rendering.message.composer import Composer, Dkim, Draft, Message, list_id
from mailer.rendering.recipient import Recipient

__all__ = ["Composer", "Dkim", "Draft", "Message", "Recipient", "list_id"]
