"""Floor 1: the scheduler. Threads park here, timers fire here, the operating system's events arrive here.

The guarantees the floors above rely on:

- A wake-up is never lost. Who waits subscribes first and looks afterwards; a wake-up that comes in between is
  kept by the parker and ends the next park at once.
- A wake-up reaches one waiter. Nobody shares a parking place, so nobody is woken to find that it was not for him.
- No user code runs here: callbacks are waitkit's own, short, and never called under a lock.
- A forked child starts afresh: threads of the parent do not exist in it, so neither do their timers and
  subscriptions; a wait that forks from inside goes on in both.

Lock order: there is none to keep. Each lock here (the timers', the workers', the descriptors') is a leaf: while
one is held, no other lock is taken and no callback is called. All of them are re-entrant, because a signal handler
may set an event in the very thread that holds one.
"""
