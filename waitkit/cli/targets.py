"""What the command line can wait for, as it is written there: ``tcp:5432``, ``http://...``, ``file:...``, ``pid:...``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from waitkit.conditions.combined import PassingWatch
from waitkit.conditions.condition import Condition
from waitkit.ground.durations import Nanoseconds
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["FORMS", "HELP", "HttpOptions", "Target", "is_address", "parse_target"]

#: Each form, and what it is there for.
_KINDS: Final = {
    "tcp:PORT, tcp:HOST:PORT": "a server accepts connections there; [::1] is how an IPv6 address is written",
    "HOST:PORT": "the same as tcp:HOST:PORT",
    "http://..., https://...": "a GET is answered with a good status, 200 to 299 unless --status says otherwise",
    "unix:PATH": "a server accepts connections at this socket",
    "file:PATH": "it exists, whatever it is",
    "pid:NUMBER": "this process has ended",
    "free:PORT, free:HOST:PORT": "a server could have this port",
}

#: What wait-on calls them.
_SAME_AS: Final = {"socket": "unix", "http-get": "http", "https-get": "https"}

#: A host and a port, without a scheme: several colons in the host are an IPv6 address, or else some scheme that is none.
_ADDRESS: Final = re.compile(r"([^:/]*|[0-9A-Fa-f:.]+|\[[^/]*\]):[0-9]+", re.ASCII)

#: For errors.
FORMS: Final = ", ".join(_KINDS)
#: For ``--help``.
HELP: Final = "targets:\n" + "\n".join(f"  {forms:27}{about}" for forms, about in _KINDS.items())


class HttpOptions:
    """How pages are judged.

    Attributes:
        status: the good ones.
        patience: how long one look waits for an answer.
    """

    def __init__(self, status: Sequence[range] = (range(200, 300),), patience: Nanoseconds = 1_000_000_000) -> None:
        self.status = status
        self.patience = patience

    def __contains__(self, status: object) -> bool:
        return any(status in part for part in self.status)


class Target(Condition[Any]):
    """A condition of the command line, which remembers what the last look at it found.

    Attributes:
        written: as it was written.
        text: the same, and whether it is to be gone.
        held: what the last look found; ``None`` before the first.
        saw: what it saw, in words.
    """

    def __init__(self, written: str, condition: Condition[Any], *, gone: bool = False) -> None:
        self.written = written
        self.text = f"no {written}" if gone else written
        self.condition = condition
        self.held: bool | None = None
        self.saw = ""

    @property
    def what(self) -> str:
        return self.text

    def watch(self, context: Context) -> Watch:
        return _TargetWatch(self.condition.watch(context), self)

    def __str__(self) -> str:
        """``"tcp:5432 (connection refused)"``."""
        return f"{self.text} ({self.saw})" if self.saw else self.text


class _TargetWatch(PassingWatch):
    __slots__ = ("_target",)

    def __init__(self, inner: Watch, target: Target) -> None:
        super().__init__(inner)
        self._target = target

    def look(self, now: Nanoseconds) -> Verdict:
        verdict = self._inner.look(now)
        self._target.held, self._target.saw = verdict.holds, self._inner.seen()
        return verdict

    def explain(self) -> Sequence[str]:
        return () if self._target.held else self._inner.explain()


class _Gone(Condition[bool]):
    """What is no longer there. Unlike ``~condition`` it takes an attempt that is not answered yet for neither."""

    def __init__(self, there: Condition[Any]) -> None:
        self._there = there

    @property
    def what(self) -> str:
        return f"not ({self._there.what})"

    def watch(self, context: Context) -> Watch:
        return _GoneWatch(self._there.watch(context))


class _GoneWatch(PassingWatch):
    __slots__ = ("_saw_it",)

    def __init__(self, inner: Watch) -> None:
        super().__init__(inner)
        self._saw_it = ""

    def look(self, now: Nanoseconds) -> Verdict:
        there = self._inner.look(now)
        saw = self._inner.seen()
        if there.holds:
            self._saw_it = saw
        # A page that had too little time to answer has what was seen before.
        decided = saw not in ("", self._saw_it) and not getattr(self._inner, "undecided", False)
        gone = not there.holds and decided
        return Verdict(gone, gone, there.again)

    def explain(self) -> Sequence[str]:
        return ()  # why it is *not* there is no news


def parse_target(text: str, *, gone: bool = False, http: HttpOptions | None = None) -> Target:
    """Read a target.

    Args:
        text: as it was written.
        gone: whether it is awaited to be gone.
        http: how pages are judged.

    Raises:
        ValueError: it is none; the message has the accepted forms.
    """
    scheme, colon, rest = text.partition(":")
    scheme = _SAME_AS.get(scheme, scheme)
    is_page = scheme in ("http", "https")
    if is_address(text):
        scheme, rest = "tcp", text
    elif not colon or not (is_page or scheme in _MAKERS):
        raise ValueError(f"{text!r} is not a target: accepted are {FORMS}{_hint(text)}")
    if gone and scheme in ("pid", "free"):
        other = "an ended process stays ended" if scheme == "pid" else "for a port that is taken write tcp:PORT"
        raise ValueError(f"{text!r} cannot be awaited to be gone: {other}")
    try:
        condition = _page(f"{scheme}:{rest}", http or HttpOptions()) if is_page else _MAKERS[scheme](rest)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a target: {error}; accepted are {FORMS}") from None
    return Target(text, _Gone(condition) if gone else condition, gone=gone)


def is_address(text: str) -> bool:
    """Whether it is a bare ``HOST:PORT``. A host of the name of a scheme needs ``tcp:`` before it."""
    scheme = text.partition(":")[0]
    known = scheme in _MAKERS or scheme in _SAME_AS or scheme in ("http", "https")
    return not known and _ADDRESS.fullmatch(text) is not None


def _hint(text: str) -> str:
    address = text.partition("://")[2].partition("/")[0]
    if _ADDRESS.fullmatch(address):
        return f"; for its TCP port write tcp://{address}"
    if text.isascii() and text.isdigit():
        return f"; for a TCP port write tcp:{text}"
    return f"; for a file write file:{text}, and a command stands after --" if text and ":" not in text else ""


def _tcp(rest: str) -> Condition[Any]:
    from waitkit.ports.listening import port_listening

    host, port = _host_and_port(rest.removeprefix("//"))
    return port_listening(port) if host is None else port_listening(port, host)


def _free(rest: str) -> Condition[Any]:
    from waitkit.ports.free import port_free

    host, port = _host_and_port(rest)
    return port_free(port, host)


def _host_and_port(text: str) -> tuple[str | None, int]:
    host, colon, number = text.rpartition(":")
    if not (number.isascii() and number.isdigit() and len(number) <= 5):
        raise ValueError(f"{number!r} is not a port, which is a number from 1 to 65535")
    if not 1 <= int(number) <= 65_535:
        raise ValueError(f"{number} is not a port, which is a number from 1 to 65535")
    if not colon:
        return None, int(number)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"an IPv6 address is written in brackets, [{host}]:{number}")
    return _checked(host), int(number)


def _checked(host: str) -> str:
    """A host that the name service can be asked about. What is none it would refuse in the middle of the wait."""
    labels = host.removesuffix(".").split(".")
    good = not any(character <= " " or character in "[]/@" for character in host)
    if good and not host.isascii():
        try:
            host.encode("idna")
        except UnicodeError:
            good = False
    if not good or not all(0 < len(label) < 64 for label in labels):
        raise ValueError(f"{host!r} is not a host")
    return host


def _page(text: str, http: HttpOptions) -> Condition[Any]:
    from urllib.parse import urlsplit

    from waitkit.ports.http import http_ok

    _checked(urlsplit(text).hostname or "localhost")  # that there is none, http_ok says
    return http_ok(text, status=http, look_timeout=f"{http.patience}ns")


def _file(rest: str) -> Condition[Any]:
    from waitkit.conditions.paths import path_exists

    return path_exists(_path(rest))


def _unix(rest: str) -> Condition[Any]:
    from waitkit.ports.listening import unix_socket_listening

    return unix_socket_listening(_path(rest))


def _path(text: str) -> str:
    if text.startswith("///"):  # as a URL has it
        text = text[2:]
    elif text.startswith("//"):
        raise ValueError(f"a path begins after the colon, with one slash or three: {text!r} names a host")
    if not text:
        raise ValueError("it has no path")
    return os.path.expanduser(text)  # a shell does so at the beginning of a word only


def _pid(rest: str) -> Condition[Any]:
    from waitkit.conditions.processes import process_exited

    if not (rest.isascii() and rest.isdigit() and 0 < int(rest[:20]) < 2**31):
        raise ValueError(f"{rest!r} is not the id of a process, which is a number above 0")
    return process_exited(int(rest))


_MAKERS: Final[dict[str, Callable[[str], Condition[Any]]]] = {
    "tcp": _tcp,
    "unix": _unix,
    "file": _file,
    "pid": _pid,
    "free": _free,
}
