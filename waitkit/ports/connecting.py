"""Connecting to see whether somebody listens: to all addresses at once, without ever blocking."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from waitkit.conditions.descriptors import is_ready
from waitkit.engine.descriptors import CannotStart, DescriptorSubscription, watch_descriptor
from waitkit.engine.signals import Wake
from waitkit.ground.durations import SECOND, Nanoseconds
from waitkit.ports.addresses import Address
from waitkit.waits.watching import Context, Verdict, Watch, earliest

__all__ = ["ConnectWatch"]

#: How long one attempt may take where no answer comes at all: a lost packet, a silent firewall, a full backlog.
_PATIENCE = SECOND

#: What is seen where an attempt got no answer in that time: a machine that is gone answers nothing at all.
_NO_ANSWER = "no answer to an attempt to connect"

_AF_UNIX = getattr(socket, "AF_UNIX", None)

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, errno.EALREADY)


class _Attempt:
    """A connection that has not been answered yet."""

    __slots__ = ("address", "began", "listening", "sock")

    def __init__(self, sock: socket.socket, address: Address, began: Nanoseconds) -> None:
        self.sock = sock
        self.address = address
        self.began = began
        self.listening: DescriptorSubscription | None = None

    def close(self) -> None:
        if self.listening is not None:
            self.listening.close()
        self.sock.close()


class ConnectWatch(Watch):
    """Tries to connect, to all addresses at once, and never blocks: a slow answer wakes the wait when it comes."""

    __slots__ = ("_attempts", "_context", "_trouble", "_wake")
    outside = True

    def __init__(self, context: Context) -> None:
        self._context = context
        self._wake: Wake | None = None
        self._attempts: list[_Attempt] = []
        self._trouble = ""

    def addresses(self) -> Sequence[Address]:
        """Where to connect. An ``OSError`` means "not yet"."""
        raise NotImplementedError

    def socket_for(self, address: Address) -> socket.socket:
        """A socket to connect to *address* from."""
        return socket.socket(address[0], socket.SOCK_STREAM)

    def value(self) -> object:
        """What the condition holds with."""
        raise NotImplementedError

    def arm(self, wake: Wake) -> None:
        self._wake = wake

    def look(self, now: Nanoseconds) -> Verdict:
        try:
            addresses = self.addresses()
        except OSError as error:
            self._trouble = error.strerror or str(error)
            return Verdict(False, None, self._context.next_look(now))
        for attempt in list(self._attempts):
            if self._answered(attempt, now):
                return self._held(now)
        pending = [attempt.address for attempt in self._attempts]
        for address in addresses:
            if address not in pending and self._begin(address, now):
                return self._held(now)
        again = None if len(self._attempts) == len(addresses) else self._context.next_look(now)
        for attempt in self._attempts:
            again = earliest(again, self._listen(attempt, now))
        return Verdict(False, None, again)

    def accepted(self, connection: socket.socket) -> None:
        """Somebody has accepted; the connection is closed right after."""

    def objection(self) -> str:
        """Why the one who accepted does not count; empty where anybody does."""
        return ""

    def _held(self, now: Nanoseconds) -> Verdict:
        self.close()
        if objection := self.objection():
            self._trouble = objection
            return Verdict(False, None, self._context.next_look(now))
        self._trouble = "it listens"
        return Verdict(True, self.value(), self._context.next_look(now))

    def _begin(self, address: Address, now: Nanoseconds) -> bool:
        """Begin an attempt. True when it is answered already, as loopback does within the call: no round is lost."""
        try:
            sock = self.socket_for(address)
        except OSError as error:  # no such address family here, or no descriptor left
            self._note(error.errno or errno.EINVAL)
            return False
        attempt = _Attempt(sock, address, now)
        try:
            sock.setblocking(False)
            code = sock.connect_ex(address[1])
        except OSError as error:  # a path too long, a scope that does not exist
            code = error.errno or errno.EINVAL
        if code not in _IN_PROGRESS or (code == errno.EAGAIN and address[0] == _AF_UNIX):
            return self._concluded(attempt, code)  # EAGAIN of a unix socket: its queue is full
        self._attempts.append(attempt)
        return self._answered(attempt, now)

    def _answered(self, attempt: _Attempt, now: Nanoseconds) -> bool:
        if is_ready(attempt.sock.fileno(), write=True):
            self._attempts.remove(attempt)
            return self._concluded(attempt, attempt.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        if now - attempt.began >= _PATIENCE:
            self._attempts.remove(attempt)
            attempt.close()
            self._trouble = _NO_ANSWER
        return False

    def _concluded(self, attempt: _Attempt, code: int) -> bool:
        """Take in the result of an attempt. True when somebody accepted."""
        try:
            if code == 0:
                if not _connected_to_itself(attempt.sock):
                    self.accepted(attempt.sock)
                    return True
                code = errno.ECONNREFUSED
        except OSError as error:  # reset between the connection and our question
            code = error.errno or errno.ECONNRESET
        finally:
            attempt.close()
        self._note(code)
        return False

    def _note(self, code: int) -> None:
        # An address family that does not exist here tells nothing; what the other one said is worth keeping.
        if code not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) or not self._trouble:
            self._trouble = os.strerror(code).lower()

    def _listen(self, attempt: _Attempt, now: Nanoseconds) -> Nanoseconds:
        """Be woken by the answer. Returns when to look at the latest."""
        if self._wake is not None and (attempt.listening is None or not attempt.listening.live):
            try:
                attempt.listening = watch_descriptor(attempt.sock.fileno(), self._wake, write=True)
            except CannotStart:
                attempt.listening = None
        if attempt.listening is None:
            return self._context.next_look(now)
        return attempt.began + _PATIENCE

    @property
    def undecided(self) -> bool:
        """Whether the last look tells neither that somebody accepts nor that nobody is there."""
        return bool(self._attempts) and self._trouble != _NO_ANSWER

    def close(self) -> None:
        for attempt in self._attempts:
            attempt.close()
        self._attempts.clear()

    def seen(self) -> str:
        return self._trouble


def _connected_to_itself(connection: socket.socket) -> bool:
    """TCP allows a socket to connect to itself, where the port it is given happens to be the one it asks for."""
    return connection.family != _AF_UNIX and connection.getsockname() == connection.getpeername()
