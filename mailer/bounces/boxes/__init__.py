"""Where bounce mail arrives: Maildir, IMAP, POP3 and LMTP."""
