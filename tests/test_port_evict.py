"""``evict_port``: the holder ends by a ladder, nobody else does, and what must not be ended gets no signal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest
from children import LONG, fresh_port, nothing_left, program  # noqa: F401

from waitkit import (
    WaitFailed,
    WaitTimeout,
    evict_port,
    managed_process,
    port_free,
    port_listening,
    process_exited,
    reserved_port,
    wait_for,
    who_holds,
)
from waitkit.ports import doomed, evict
from waitkit.ports.holders import Holder

pytestmark = pytest.mark.usefixtures("nothing_left")

SERVER = """
import os, signal, socket, sys
how, port = sys.argv[1], int(sys.argv[2])
if "user" in how:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
if "stubborn" in how:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "polite" in how:
    def go(number, frame):
        os.write(1, b"going %d\\n" % number)
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, go)
server = socket.socket()
if "plain" not in how:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", port))
if "silent" not in how:
    server.listen()
if "fork" in how:
    os.fork()
os.write(1, b"there\\n")
if "accept" in how:
    connection, _ = server.accept()
    if "only" in how:
        server.close()
    os.write(1, b"accepted\\n")
while True:
    signal.pause()
"""


@contextmanager
def holder(how: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the port as described, reaped at the end."""
    process = subprocess.Popen([*program(SERVER), how, str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
    finally:
        process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def port() -> int:
    """A port that nobody has."""
    return fresh_port()


def test_free_port_is_left_alone(port: int) -> None:
    """Where nobody bars the port, nothing is done; a reservation bars no server."""
    assert evict_port(port) == ()
    with reserved_port() as held:
        assert evict_port(held) == ()


def test_listener_ends_by_the_signal(port: int) -> None:
    """A server that follows the signal ends by it, and the port is free when the call returns."""
    with holder("polite", port) as process:
        (ended,) = evict_port(port, timeout=LONG)
        assert (ended.pid, ended.state) == (process.pid, "LISTEN")
        assert process.wait(30) == 0
        assert process.stdout is not None
        assert process.stdout.read() == f"going {int(signal.SIGTERM)}\n"
        assert wait_for(port_free(port), timeout=0) == port


def test_another_signal(port: int) -> None:
    """The first signal is the one that is asked for."""
    with holder("polite", port) as process:
        evict_port(port, stop_signal=signal.SIGINT, timeout=LONG)
        assert process.stdout is not None
        assert process.stdout.read() == f"going {int(signal.SIGINT)}\n"


def test_stubborn_listener_is_killed(port: int) -> None:
    """A server that ignores the signal is killed after the time it is given."""
    with holder("stubborn", port) as process:
        evict_port(port, timeout="50ms")
        assert process.wait(30) == -signal.SIGKILL


def test_kill_at_once(port: int) -> None:
    """SIGKILL as the first signal leaves no grace."""
    with holder("polite", port) as process:
        evict_port(port, stop_signal=signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL


def test_bound_and_silent(port: int) -> None:
    """A process that is bound without the option, and does not listen, bars the port too, and is ended."""
    with holder("silent plain", port) as process:
        (ended,) = evict_port(port, timeout=LONG)
        assert (ended.pid, ended.state) == (process.pid, "BOUND")
        assert process.wait(30) == -signal.SIGTERM


def test_all_who_share_the_listener(port: int) -> None:
    """Where parent and child have the listener open, both are ended: the port would else stay taken."""
    with holder("fork", port) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        ended = evict_port(port, timeout=LONG)
        assert len({one.pid for one in ended}) == 2
        assert process.pid in {one.pid for one in ended}
        assert wait_for(port_free(port), timeout=0) == port


def test_clients_are_left_alone(port: int) -> None:
    """A client of the server, here this very process, is nobody's business, and goes on."""
    with holder("accept", port) as process:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            assert process.stdout is not None
            assert process.stdout.readline() == "accepted\n"
            (pid,) = {one.pid for one in evict_port(port, timeout=LONG)}
            assert pid == process.pid
            assert client.recv(1) == b""


def test_connection_that_keeps_the_port(port: int) -> None:
    """A process that no longer listens, but has a connection that bars the port, is ended."""
    with holder("accept only plain", port) as process:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            # So that what the server leaves is reset, and not in its last minute.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            assert process.stdout is not None
            assert process.stdout.readline() == "accepted\n"
            os.kill(process.pid, signal.SIGSTOP)  # nothing is closed before the end
            holders = evict._to_be_ended(port)
            assert [(one.pid, one.state) for one in holders] == [(process.pid, "ESTABLISHED")]
            client.close()
            evict_port(port, stop_signal=signal.SIGKILL)
            wait_for(port_free(port), timeout=0)


def test_what_is_left_of_connections_is_told(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where connections bar the port that belong to nobody, nobody is ended, and the error says until when."""
    monkeypatch.setattr(evict, "AFTER_KILL", 10_000_000)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()
            assert client.recv(1) == b""
    with pytest.raises(WaitTimeout, match="no process: TIME_WAIT on 127.0.0.1, which passes in"):
        evict_port(port)


def test_own_process_is_refused(port: int) -> None:
    """This process itself is refused, and the listener goes on."""
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(PermissionError, match=f"pid {os.getpid()} .*: that is this process; close the socket"):
            evict_port(port, force=True)
        assert wait_for(port_listening(port), timeout=0) == port


def test_ancestors_are_refused(port: int) -> None:
    """A process cannot end the one it was started by."""
    code = (
        "import sys\n"
        "from waitkit import evict_port\n"
        "try:\n"
        "    evict_port(int(sys.argv[1]), force=True)\n"
        "except PermissionError as error:\n"
        "    print(error)\n"
    )
    with socket.create_server(("127.0.0.1", port)):
        ended = subprocess.run(
            [sys.executable, "-c", code, str(port)], capture_output=True, text=True, timeout=30, check=False
        )
    assert f"pid {os.getpid()} " in ended.stdout
    assert "this process descends from it" in ended.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start another user's process")
def test_other_users_need_force(port: int) -> None:
    """Another user's process gets no signal without force, and is ended with it."""
    with holder("polite user", port) as process:
        with pytest.raises(PermissionError, match="that is another user's; force=True"):
            evict_port(port)
        assert wait_for(port_listening(port), timeout=0) == port
        assert process.poll() is None
        assert len(evict_port(port, force=True, timeout=LONG)) == 1
        assert process.wait(30) == 0


def test_one_refusal_keeps_all(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one of several holders must not be ended, none gets a signal."""
    with holder("polite", port) as process:
        ours = Holder(process.pid, "python", "", "LISTEN", "127.0.0.1")
        for stranger, reason in (
            (ours._replace(pid=1), "the system itself"),
            (ours._replace(pid=None), "who cannot be seen cannot be ended"),
        ):
            monkeypatch.setattr(evict, "who_holds", lambda port, stranger=stranger: (ours, stranger))
            with pytest.raises(PermissionError, match=reason):
                evict_port(port, force=True)
        assert process.poll() is None
        assert wait_for(port_listening(port), timeout=0) == port


def test_kernel_threads_are_known() -> None:
    """A kernel thread is told from an ordinary process, where they can be seen."""
    assert not evict._is_kernel_thread(os.getpid())
    assert not evict._is_kernel_thread(2**22 + 1)
    for name in os.listdir("/proc"):
        if name.isdecimal() and evict._is_kernel_thread(int(name)):
            assert not os.path.exists(f"/proc/{name}/exe") or os.readlink(f"/proc/{name}/exe") == ""


def test_process_that_came_after_gets_no_signal(port: int) -> None:
    """A process of a pid that was another's, and has nothing of the port, gets no signal."""
    with managed_process(program("import signal; print('on', flush=True); signal.pause()")) as other:
        with doomed.Doomed(port, [other.pid, 2**22 + 1]) as found:
            assert found.holders == {}
        assert other.exit_code is None


def test_somebody_else_takes_the_port(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another takes the port at once, that is told at once, with who it is."""
    real = doomed.Doomed.end

    def and_then(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        server.bind(("127.0.0.1", port))
        server.listen()

    monkeypatch.setattr(doomed.Doomed, "end", and_then)
    monkeypatch.setattr(evict, "AFTER_KILL", 3_600_000_000_000)
    with socket.socket() as server, holder("polite", port):
        with pytest.raises(WaitFailed, match=f"taken again (?s:.*)port {port} is held by pid {os.getpid()} "):
            evict_port(port, timeout=LONG)


# What it has started, and who has started it.


FAMILY = """
import os, signal, socket, subprocess, sys
how, port = sys.argv[1], int(sys.argv[2])
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", port))
server.listen()
if "orphan" in how:  # a grandchild whose parent is gone, in the session of the holder
    child = subprocess.run(["sh", "-c", "sleep infinity >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE).stdout
    pid = int(child)
else:
    ignore = (lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)) if "stubborn" in how else None
    pid = subprocess.Popen(["sleep", "infinity"], preexec_fn=ignore, start_new_session=True).pid
if "deaf" in how:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"%d\\n" % pid)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("how", ["plain", "stubborn", "deaf", "deaf stubborn", "orphan", "kill"])
def test_what_it_has_started_goes_with_it(port: int, how: str) -> None:
    """A child in a session of its own, and an orphan in the session of the holder, are gone when the call returns."""
    process = subprocess.Popen(
        [*program(FAMILY), how, str(port)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    try:
        number = signal.SIGKILL if how == "kill" else signal.SIGTERM
        (ended,) = evict_port(port, stop_signal=number, timeout=LONG if how in ("plain", "orphan") else "50ms")
        assert ended.pid == process.pid
        wait_for(process_exited(child), timeout=0)
        assert process.wait(30) == (-signal.SIGKILL if "deaf" in how or how == "kill" else -signal.SIGTERM)
    finally:
        for one in (process, child):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait(30)
        process.stdout.close()


def test_what_is_left_may_follow_the_signal_itself(port: int) -> None:
    """What the holder leaves behind is asked, too, before it is killed."""
    # The sleep is asked, too, and may be so first: that its child has ended is no reason for the shell to end.
    child = "trap 'echo asked; exit' TERM; sleep infinity & echo up $$; while :; do wait; done"
    parent = FAMILY.replace('["sleep", "infinity"]', f'["sh", "-c", {child!r}]').replace("os.write(1", "os.write(2")
    process = subprocess.Popen(
        [*program(parent), "plain", str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("up ")
    process.stderr.readline()
    evict_port(port, timeout=LONG)
    process.wait(30)
    assert process.stdout.read() == "asked\n"
    process.stdout.close()
    process.stderr.close()


SUPERVISOR = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: (os.kill(child.pid, signal.SIGKILL), os._exit(0)))
while True:
    child = subprocess.Popen([sys.executable, *sys.argv[2:]])
    child.wait()
    if sys.argv[1] == "once":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pause()
    if sys.argv[1] == "ends":
        break
"""


@contextmanager
def supervised(how: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """A server that another process has started, which starts it again, or does not."""
    process = subprocess.Popen(
        [*program(SUPERVISOR), how, *program(SERVER)[1:], "reuse", str(port)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "there\n"
        yield process
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def test_a_holder_that_is_started_again(port: int) -> None:
    """Where its parent starts the server again that is no success: the error says who listens now, and who started that."""
    with supervised("again", port) as parent:
        with pytest.raises(WaitFailed) as caught:
            evict_port(port, timeout=LONG)
        (now,) = who_holds(port)
        assert str(caught.value).startswith(f"port {port} was taken again ")
        assert f"port {port} is held by {now}" in str(caught.value)
        assert f"pid {now.pid} was started by pid {parent.pid} " in str(caught.value)


@pytest.mark.parametrize("how", ["once", "ends"])
def test_a_parent_that_starts_nothing_again(port: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent that leaves it at that is watched for a moment, and no longer than it is there."""
    monkeypatch.setattr(evict, "_STARTED_AGAIN", 50_000_000 if how == "once" else 3_600_000_000_000)
    with supervised(how, port) as parent:
        assert len(evict_port(port, timeout=LONG)) == 1
        assert (parent.poll() is None) == (how == "once") or parent.wait(30) == 0


# What belongs to the system.

SERVICE = "0::/system.slice/nginx.service"


@pytest.mark.parametrize(
    ("cgroup", "login", "our_cgroup", "our_login", "reason"),
    [
        (SERVICE, "", "0::/user.slice/user-0.slice/session-3.scope", "", "of nginx.service: systemctl stop nginx"),
        ("3:cpu:/\n1:name=systemd:/system.slice/a.service/b\n0::/", "", "0::/", "", "of a.service: systemctl"),
        ("0::/own.slice/a.service", "1000", "0::/", "1000", "of a.service"),
        ("0::/own.slice", "4294967295", "0::/", "1000", "which comes from no login"),
        ("0::/", "4294967295", "0::/", "4294967295", ""),  # a container: nobody has logged in
        ("0::/", "", "0::/", "", ""),  # a kernel without accounts of logins
        ("", "", "", "", ""),  # no /proc
        ("0::/own.slice", "1000", "0::/", "1000", ""),
        (SERVICE, "4294967295", SERVICE, "4294967295", ""),  # a job of the service that we are a job of
        ("0::/user.slice/user-0.slice/user@0.service/app.slice/a.service", "0", "0::/", "0", ""),
        ("4:cpu:/a.service\n0::/docker.scope", "", "0::/", "", ""),  # not by systemd
    ],
)
def test_processes_of_the_system(
    cgroup: str, login: str, our_cgroup: str, our_login: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process is the system's by the service it is in, or as it comes from no login, where we are told of logins."""
    told = {"cgroup": cgroup, "loginuid": login}
    ours = {"cgroup": our_cgroup, "loginuid": our_login}
    monkeypatch.setattr(evict, "_told", lambda pid, name: (ours if pid == os.getpid() else told)[name])
    parent = psutil.Process(os.getppid())  # no child of ours
    assert evict._why_of_the_system(parent.pid).startswith(reason)
    assert bool(evict._why_of_the_system(parent.pid)) == bool(reason)


def test_the_system_needs_force(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service gets no signal without force, and is ended with it; what we have started ourselves needs none."""
    monkeypatch.setattr(evict, "_told", lambda pid, name: "" if pid == os.getpid() else SERVICE)
    real = doomed.ancestors
    with holder("polite", port) as process:
        monkeypatch.setattr(evict, "ancestors", lambda pid: real(pid) - {os.getpid()})
        with pytest.raises(PermissionError, match=r"a process of the system, of nginx\.service: .*; force=True"):
            evict_port(port)
        assert process.poll() is None
        evict_port(port, force=True, timeout=LONG)
        assert process.wait(30) == 0
    monkeypatch.setattr(evict, "ancestors", real)
    with holder("polite", port) as process:
        assert len(evict_port(port, timeout=LONG)) == 1


def test_what_may_not_be_ended_keeps_all(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not let us end something that the holder has started, nobody gets a signal, unless by force."""
    process = subprocess.Popen([*program(FAMILY), "plain", str(port)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    real = doomed._Target.send

    def send(self: doomed._Target, number: int) -> None:
        if self.process == child:
            raise PermissionError("Operation not permitted")
        real(self, number)

    monkeypatch.setattr(doomed._Target, "send", send)
    try:
        with pytest.raises(PermissionError, match=f"pid {child.pid}, which was started by who holds port {port}, "):
            evict_port(port)
        assert process.poll() is None
        monkeypatch.setattr(doomed, "AFTER_KILL", 20_000_000)
        with pytest.raises(WaitTimeout, match=f"pid {process.pid} to let go of port {port}, with what it has started"):
            evict_port(port, force=True, timeout="20ms")
        assert process.wait(30) == -signal.SIGTERM
    finally:
        process.kill()
        child.kill()
        process.wait(30)
        process.stdout.close()
