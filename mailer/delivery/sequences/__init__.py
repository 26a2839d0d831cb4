"""Sequences: series of messages that each person gets from the day they enter.

`storing` puts the files of a sequence into the database, and explains what a change means for the people in
it. `looking` is the periodic work: it lets people enter and queues the steps that are due. Each step is an
issue, and each message a delivery of it, so runs send them, books count them, and the key of `deliveries`
keeps anyone from getting a step twice. A member's row says which step comes next and when; `slots` adds the
hour and the day of the week in their own zone.
"""
