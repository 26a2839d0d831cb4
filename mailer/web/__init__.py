"""The web pages, the API, webhooks and tracked links."""
