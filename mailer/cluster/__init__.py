"""Workers on several machines: which are alive, and what each does next. PostgreSQL only.

Procrastinate, a job queue in the same database, divides the work (`engine`). It holds two kinds of jobs:

- A turn (`turns`): one worker sends one issue for up to a minute. Every worker has a queue of its own and
  gets a turn of each issue, so all of them send every issue.
- A chore (`chores`): periodic work such as reading bounce mailboxes, done by one worker at a time.

Jobs may be lost at any time: the books are in `deliveries`, and a look every few seconds offers turns of
whatever is still to be sent. So the jobs of a dead worker are deleted, not repeated.
"""
