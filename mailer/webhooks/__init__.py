"""Outgoing webhooks: notify other programs of events as they happen.

A fact and its events are written in one transaction, so none is lost and none is invented. The sender reads
them from the database and tries again until an endpoint takes them. Format and signature follow Standard
Webhooks (https://www.standardwebhooks.com).
"""
