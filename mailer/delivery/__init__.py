"""The queue of all mail, and the runs that send it.

The path of one delivery, from a subscriber to the server's last word:

1. `delivery.issues.enqueue` freezes the edition and writes one `queued` row for each subscriber of the
   audience. From then on the books balance at every commit.
2. `delivery.dispatch.dispatch` takes the lock (`delivery.lock.sending`) and starts a run,
   `delivery.sender.Sender.run`. On PostgreSQL other runs may be alive, and `delivery.sharing.Sharing` divides
   the limits among them. What a dead run had claimed becomes `uncertain` (`delivery.runs.recover`).
3. `smtp.pool.Pool.deliver` needs work. `delivery.bookkeeping.RunBooks.commit` claims the next window:
   `delivery.queue.claim` marks the rows `sending` and commits before any octet leaves.
4. A connection is free, and the limits of its relay (`smtp.relay.RelayState.delay`) and of the mailbox
   provider (`smtp.lanes.Lanes.next_for`) allow a message. `delivery.window.Window.begin` checks once more
   that the subscriber may be mailed.
5. `delivery.ahead.Ahead.message` composes the message; `smtp.signing.SigningProcess` signs it.
6. `smtp.session.SmtpSession.run` sends it, and reports an `smtp.session.Attempt`.
7. `delivery.judging.decide` passes a refusal to the one judge, `replies.judge.judge`, with the command
   that was answered and the server's names. Accepted means `sent`; temporary refusals and lost connections
   mean `deferred`; a connection lost after the final dot means `uncertain`.
8. A fault of ours sets the relay aside (`smtp.pool.Pool.set_aside`), or pauses the issue
   (`delivery.control.pause`) if no other relay is left.
9. A permanent refusal goes to the breaker (`delivery.breaker.Breaker.refused`) and the row is only
   `deferred` for now. If the same refusal comes for nearly everybody, it is our fault: step 8.
10. `delivery.queue.settle` writes the outcomes of steps 7 to 9 together with the next claim, in a
    transaction that also confirms that the run is alive (`delivery.runs.confirm`). Once the
    breaker clears a refusal, `delivery.queue.fail_pending` moves its row to `failed`, and the policy of
    bounces learns about it in the same transaction.
11. `delivery.bookkeeping.RunBooks.end` writes what is left, gives unsent rows back
    (`delivery.queue.release`) and finishes the issue if nothing is open (`delivery.control.finish`).
"""
