"""``wait_for`` and scopes: the type of what is awaited is the type that comes back."""

from __future__ import annotations

import queue
import socket
import threading
from concurrent.futures import Future
from typing import assert_type

from waitkit import CancelScope, Value, all_of, any_of, fail_after, move_on_after, readable, wait_for


def found() -> int | None:
    return 5


async def awaits() -> None:
    assert_type(await Value(5).equals(5), int)


future: Future[int] = Future()
assert_type(wait_for(found), int)
assert_type(wait_for(future), Future[int])
simple: queue.SimpleQueue[str] = queue.SimpleQueue()
assert_type(wait_for(simple), queue.SimpleQueue[str])
connection, _ = socket.socketpair()
assert_type(wait_for(connection), socket.socket)
assert_type(wait_for(readable(connection)), socket.socket)
assert_type(wait_for(readable(0)), int)
readable("x")  # E: no descriptor
assert_type(wait_for(any_of(future, threading.Event())).position, int)
with fail_after("5s") as scope, move_on_after(1):
    assert_type(scope, CancelScope)

wait_for()  # E: what for?
wait_for(found, [1])  # E: no duration
wait_for(found, message=5)  # E: no words
wait_for(found, ignore="OSError")  # E: no exception type
fail_after(None)  # E: a deadline is needed
all_of(future).held_for(None)  # E: no duration
