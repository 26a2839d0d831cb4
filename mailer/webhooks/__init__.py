"""Outgoing webhooks: what happens here, told to other programs as it happens.

A fact and its events are written in one transaction, so none is lost and none is invented. The sender reads
them from the database and tries again until an endpoint takes them. Format and signature follow Standard
Webhooks (https://www.standardwebhooks.com).
"""
