"""Descriptors: one thread waits for all of them, wakes each waiter once, and keeps nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import tempfile
import threading

import pytest
from support import LIMIT, Running, descriptors, python, rests, until

from waitkit import CancelScope, Event, WaitTimeout, all_of, any_of, readable, wait_for, wait_for_async
from waitkit.engine import descriptors as engine
from waitkit.engine.descriptors import Descriptors


@pytest.fixture
def pipe():
    """A pipe: the end to read, and the end to write."""
    reader, writer = os.pipe()
    ours = os.fstat(reader)
    yield reader, writer
    for fd in (reader, writer):
        try:
            # A test may have closed it, and its number may be another file by now, such as the engine's own.
            if os.path.samestat(os.fstat(fd), ours):
                os.close(fd)
        except OSError:
            pass


@pytest.fixture(params=["alone", "beside an event"])
def wait_to_read(request):
    """Waits for a descriptor, in its own thread: there that thread rests alone, or woken by the one of the engine."""
    if request.param == "alone":
        return lambda fd, limit=LIMIT: wait_for(readable(fd), limit)
    return lambda fd, limit=LIMIT: wait_for(any_of(readable(fd), Event()), limit).value


def watched(owner=None):
    """How many descriptors are watched."""
    return len((owner or engine._descriptors)._subscribed)


def is_watched(fd):
    """Whether the thread of this process watches *fd*."""
    return fd in engine._descriptors._subscribed


def test_a_pipe_wakes_its_waiter(pipe, wait_to_read):
    """A wait for a pipe ends when something is written, and leaves it in the pipe; the value is what was given."""
    reader, writer = pipe
    waiting = Running(wait_to_read, reader)
    until(lambda: rests(waiting))
    os.write(writer, b"x")
    assert waiting.result() == reader
    assert os.read(reader, 9) == b"x"


def test_the_end_of_a_pipe_is_readable(pipe, wait_to_read):
    """A pipe whose writer is gone can be read: it gives its end."""
    reader, writer = pipe
    waiting = Running(wait_to_read, reader)
    until(lambda: rests(waiting))
    os.close(writer)
    waiting.result()


def test_a_waiter_is_woken_and_not_polling(pipe, wait_to_read):
    """A wait of some time looks a fixed handful of times: it is woken, it does not poll."""
    reader, _ = pipe
    with pytest.raises(WaitTimeout) as caught:
        wait_to_read(reader, "300ms")
    assert caught.value.looks <= 3


def test_many_waiters_at_one_descriptor(pipe, wait_to_read):
    """All who wait for the same descriptor are woken, and one that leaves takes nothing from the others."""
    reader, writer = pipe
    staying = [Running(wait_to_read, reader) for _ in range(20)]
    leaving = [Running(wait_to_read, reader, "20ms") for _ in range(20)]
    for waiting in leaving:
        with pytest.raises(WaitTimeout):
            waiting.result()
    os.write(writer, b"x")
    for waiting in staying:
        assert waiting.result() == reader


def test_a_descriptor_that_stays_ready_does_not_make_the_thread_spin(pipe):
    """After its waiters were called a descriptor is left alone, ready or not."""
    reader, writer = pipe
    owner = Descriptors()
    calls = []
    owner.watch(reader, lambda: calls.append(1))
    os.write(writer, b"x")
    until(lambda: calls)
    until(lambda: watched(owner) == 0)
    again = threading.Event()
    owner.watch(reader, again.set)
    assert again.wait(LIMIT)
    assert calls == [1]


def test_a_closed_subscription_is_not_called(pipe):
    """What was closed before the descriptor became ready is not called, twice closed or not."""
    reader, writer = pipe
    owner = Descriptors()
    calls, other = [], threading.Event()
    first = owner.watch(reader, lambda: calls.append(1))
    owner.watch(reader, other.set)
    first.close()
    first.close()
    os.write(writer, b"x")
    assert other.wait(LIMIT)
    assert calls == []


def test_reading_and_writing_are_told_apart():
    """Who waits to read is not called because the descriptor can be written, and the other way round."""
    one, two = socket.socketpair()
    with one, two:
        owner = Descriptors()
        reads, writes = threading.Event(), threading.Event()
        owner.watch(one.fileno(), reads.set)
        owner.watch(one.fileno(), writes.set, write=True)
        assert writes.wait(LIMIT)
        assert not reads.is_set()
        two.send(b"x")
        assert reads.wait(LIMIT)


def test_a_number_that_comes_back_as_another_file():
    """A descriptor closed and opened again as another pipe is watched anew, even while the forgotten wait goes on."""
    reader, writer = os.pipe()
    forgotten = Running(wait_for, any_of(readable(reader), Event()), "1s")
    until(lambda: is_watched(reader))
    other_reader, new_writer = os.pipe()
    new_reader = os.dup2(
        other_reader, reader
    )  # closes what had the number, and leaves no moment in which nothing has it
    os.close(other_reader)
    os.close(writer)
    waiting = Running(wait_for, any_of(readable(new_reader), Event()), LIMIT)
    alone = Running(wait_for, readable(new_reader), LIMIT)
    until(lambda: is_watched(new_reader) and rests(alone))
    os.write(new_writer, b"x")
    assert waiting.result().value == alone.result() == new_reader
    forgotten.result()  # it waits for the number, so it sees the new file
    os.close(new_reader)
    os.close(new_writer)


def test_a_number_that_comes_back_is_watched_after_each_wait(wait_to_read):
    """Waits one after the other for different pipes of the same number each hear of their own."""
    for _ in range(50):
        reader, writer = os.pipe()
        with pytest.raises(WaitTimeout):
            wait_to_read(reader, "200us")
        waiting = Running(wait_to_read, reader)
        os.write(writer, b"x")
        waiting.result()
        os.close(reader)
        os.close(writer)


def test_regular_files_are_ready_at_once():
    """A regular file, which no selector takes, is always readable, and alone or combined is no error."""
    with tempfile.TemporaryFile() as file:
        assert wait_for(file, 1) is file
        assert wait_for(any_of(lambda: False, file), 1).value is file
        with pytest.raises(WaitTimeout):
            wait_for(~readable(file), "5ms")


def test_a_closed_descriptor_is_refused():
    """A number that is not open is no descriptor that can be read: waiting for it is an error, not a success."""
    reader, writer = os.pipe()
    os.close(writer)
    os.close(reader)
    with pytest.raises((ValueError, OSError)):
        wait_for(readable(reader), 0)


def test_a_closed_socket_is_refused():
    """A socket that was closed before the wait is a ValueError."""
    one, two = socket.socketpair()
    two.close()
    one.close()
    with pytest.raises(ValueError, match="has no open file descriptor"):
        wait_for(one, 1)


def test_nothing_stays_open(pipe, monkeypatch):
    """When the last wait is over the thread ends, and with it the selector and its pipe."""
    monkeypatch.setattr(engine, "LINGER", 1_000_000)
    before = descriptors()
    owner = Descriptors()
    called = threading.Event()
    owner.watch(pipe[0], called.set)
    [thread] = [t for t in threading.enumerate() if t.name == "waitkit-descriptors" and t._target.run.__self__ is owner]
    assert thread.daemon
    os.write(pipe[1], b"x")
    assert called.wait(LIMIT)
    wait_for(thread, LIMIT)
    assert descriptors() == before
    owner.watch(pipe[0], lambda: None).close()  # it starts again where it is needed
    until(lambda: descriptors() == before)


def test_what_a_wake_up_raises_is_shown(pipe, monkeypatch):
    """The thread belongs to many: what one of them raises reaches threading.excepthook, and the others are called."""
    shown = []
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_type))
    owner, called = Descriptors(), threading.Event()

    def fail():
        raise LookupError

    owner.watch(pipe[1], fail, write=True)
    until(lambda: shown == [LookupError])
    owner.watch(pipe[1], called.set, write=True)
    until(called)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="what the kernel keeps is epoll's matter")
def test_a_forgotten_entry_does_not_make_the_thread_spin():
    """A descriptor closed under its waiter, whose file lives on in a duplicate, does not keep the thread busy."""
    run = python("""
        import os, socket, threading, time
        from waitkit import WaitTimeout, after, readable, wait_for
        one, two = socket.socketpair()
        other, far = socket.socketpair()
        duplicate = os.dup(one.fileno())
        threading.Thread(target=lambda: wait_for(other, 60), daemon=True).start()
        try:
            number = one.fileno()
            threading.Thread(target=lambda: (wait_for(after("20ms")), one.close())).start()
            wait_for(readable(number) & (lambda: False), "100ms")
        except (WaitTimeout, OSError, ValueError):
            pass
        two.send(b"x")
        began = time.process_time()
        wait_for(after("500ms"))
        print((time.process_time() - began) / 0.5)
        """)
    assert float(run.stdout) < 0.5, "the share of a processor that an idle process takes"


def test_without_descriptors_left_it_looks_instead():
    """Where the process has no descriptor left for the selector, a wait goes on by looking."""
    run = python("""
        import os, resource, socket
        import waitkit.conditions.descriptors
        from waitkit import WaitTimeout, readable, wait_for
        one, two = socket.socketpair()
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            os.close(taken.pop())
        for _ in range(2):
            try:
                wait_for(one, 0.05)
            except WaitTimeout:
                print("timeout", end=" ")
        two.send(b"x")
        print(wait_for(one, 5) is one)
        """)
    assert run.stdout.strip() == "timeout timeout True", run.stderr


@pytest.mark.parametrize(
    "make",
    [
        lambda fd: all_of(readable(fd), Event()),
        lambda fd: ~readable(fd),
        lambda fd: readable(fd).held_for("1h"),
        lambda fd: readable(fd) & all_of(readable(fd), Event()),
    ],
    ids=["all_of", "not", "held_for", "twice"],
)
@pytest.mark.parametrize("place", ["thread", "scope", "loop"])
def test_what_is_readable_already_wakes_nobody(pipe, make, place):
    """A wait that goes on though its descriptor can be read looks as rarely as any other."""
    reader, writer = pipe
    os.write(writer, b"x")

    async def in_a_loop():
        await wait_for_async(make(reader), "100ms")

    with pytest.raises(WaitTimeout) as caught:
        if place == "loop":
            asyncio.run(in_a_loop())
        elif place == "scope":
            with CancelScope():
                wait_for(make(reader), "100ms")
        else:
            wait_for(make(reader), "100ms")
    assert caught.value.looks < 150  # a probe has about 50


def test_a_descriptor_that_is_drained_and_filled_again(pipe):
    """What could be read at an earlier look, and cannot now, is listened to again."""
    reader, writer = pipe
    os.write(writer, b"x")
    drained = Event()
    waiting = Running(lambda: wait_for(all_of(readable(reader), drained), LIMIT))
    until(lambda: rests(waiting))
    os.read(reader, 1)
    drained.set()
    until(lambda: is_watched(reader))
    os.write(writer, b"y")
    waiting.result()


class _Moved:
    """Something whose descriptor becomes another."""

    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd


def test_a_number_that_changes_is_listened_to(pipe, wait_to_read):
    """Who reconnects has another descriptor: from the next look on that one is waited for."""
    reader, writer = pipe
    first, other = socket.socketpair()
    with first, other:
        thing = _Moved(first.fileno())
        look_again = Event()
        waiting = Running(lambda: wait_for(any_of(readable(thing), look_again & Event()), LIMIT))
        until(lambda: rests(waiting))
        thing.fd = reader
        look_again.set()
        until(lambda: is_watched(reader) and not is_watched(first.fileno()))
        os.write(writer, b"x")
        waiting.result()


def test_who_leaves_a_closed_descriptor_leaves_quietly(pipe):
    """Of several who wait for a descriptor that was closed under them, those that end otherwise do so."""
    reader, _ = pipe
    events = [Event() for _ in range(3)]
    waiting = [Running(lambda event=event: wait_for(any_of(event, readable(reader)), LIMIT)) for event in events]
    until(lambda: all(map(rests, waiting)))
    os.close(reader)
    events[0].set()
    assert waiting[0].result().position == 0
    for other in waiting[1:]:  # and the others are told of it, whatever they wait for besides
        with pytest.raises(OSError, match="is not open"):
            other.result()


def test_who_comes_to_a_closed_descriptor_has_the_others_told(pipe):
    """A descriptor that was closed under its waiters is found closed by the next who comes: all of them are told."""
    reader, _ = pipe
    waiting = Running(lambda: wait_for(any_of(readable(reader), Event()), None))
    until(lambda: rests(waiting))
    os.close(reader)
    with pytest.raises(OSError, match="Bad file descriptor"):
        engine.watch_descriptor(reader, lambda: None)
    with pytest.raises(OSError, match="is not open"):
        waiting.result()


def test_no_descriptor_left_to_begin_anew(pipe, monkeypatch):
    """Where the thread has to begin anew, and has no descriptor for that, all look from time to time, and it can begin again."""
    reader, writer = pipe
    watching = Descriptors()
    watching.watch(reader, lambda: None).close()
    told = Event()
    # A file that lives on in a duplicate after its number was closed: what it tells, nobody knows.
    lost, other = os.pipe()
    copy = os.dup(lost)
    subscription = watching.watch(lost, lambda: None)
    watching.watch(reader, told.set)
    os.close(lost)
    monkeypatch.setattr(engine, "make_selector", _no_descriptor_left)
    subscription.close()
    os.write(other, b"x")
    until(told)
    until(lambda: not watching._running)
    monkeypatch.undo()
    again = Event()
    watching.watch(reader, again.set)
    os.write(writer, b"x")
    until(again)
    for fd in (copy, other):
        os.close(fd)


def _no_descriptor_left():
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("step", ["register", "unregister"])
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupted_close_takes_nothing_from_others(pipe, step, after):
    """Where Ctrl-C falls beside a call of the selector when one of two leaves a descriptor, the other is woken all the same."""
    reader, writer = pipe
    watching, heard = Descriptors(), Event()
    first = watching.watch(reader, lambda: None)
    watching.watch(reader, heard.set)
    real = getattr(watching._selector, step)

    def interrupted(*args):
        setattr(watching._selector, step, real)
        if after:
            real(*args)
        raise KeyboardInterrupt

    setattr(watching._selector, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        first.close()
    first.close()  # as a wait does that was interrupted
    os.write(writer, b"x")
    until(heard)
