"""Pages and endpoints: unsubscribe, archive, intake."""
