"""Pages for readers: sign-up, preferences, unsubscribing and the archive."""
