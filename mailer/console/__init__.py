"""The operator's console in a browser: write, check, preview, schedule, send, watch and explain.

It has no logic of its own. Its pages call the functions that the commands call, and every change goes
through `Desk`, which checks the person's role and writes the audit log.
"""
