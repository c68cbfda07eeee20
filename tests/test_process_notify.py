"""Readiness by ``sd_notify``: what children say, who may say it, and real servers that speak it unmodified."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest
from children import LONG, START_METHODS, no_descriptor_left, nothing_left, program  # noqa: F401
from support import Running
from test_process_output import nobody_reads

from waitkit import (
    WaitFailed,
    WaitTimeout,
    all_of,
    any_of,
    managed_process,
    notify_ready,
    notify_status,
    notify_stopping,
    output_matches,
    path_exists,
    ready_notified,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

#: A child that imports nothing of ours, as a program in any language would: it speaks the protocol by hand.
SPEAK = """
import os, signal, socket, sys
def say(text):
    name = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), "\\0" + name[1:] if name[0] == "@" else name)
"""


def speaker(code: str) -> list[str]:
    """A program that has ``say(text)``, then runs *code*, then stays."""
    return program(SPEAK + code + "\nsignal.pause()")


def be_ready(status: str) -> None:
    """A callable that says by sd_notify what it does, and that it is ready."""
    assert notify_status("loading")
    assert notify_ready(status)
    signal.pause()


@pytest.mark.parametrize("method", START_METHODS)
def test_callable(method: str) -> None:
    """A callable of any start method is ready when it calls notify_ready(); its status can be read."""
    with managed_process(be_ready, "serving", ready="notify", ready_timeout=LONG, start_method=method) as process:
        assert process.status == "serving"
        assert process.ready_after is not None


def test_program() -> None:
    """A program is ready when it says READY=1, in a message with whatever else, in whatever order."""
    with managed_process(
        speaker("say('X_ANY=1\\nSTATUS=up\\nREADY=1')"), ready="notify", ready_timeout=LONG
    ) as process:
        assert process.status == "up"


def test_not_ready_yet() -> None:
    """READY=0, or the word in another place, is not readiness; the error has the last status and the system's error."""
    code = "say('STATUS=READY=1'); say('READY=0'); say('STATUS=no disk\\nERRNO=28\\nSTOPPING=1'); print('said')"
    process = managed_process(speaker(code), ready=ready_notified(), ready_timeout="1s")
    with pytest.raises(WaitTimeout) as caught:
        process.start()
    message = str(caught.value)
    assert "its READY=1 by sd_notify" in message
    assert "its last status: no disk" in message
    assert f"its error: {os.strerror(errno.ENOSPC)} (ERRNO=28)" in message
    assert "it has said that it is stopping" in message


def test_death_before_ready() -> None:
    """A process that dies before its READY=1 fails the start at once, with its status and its last words."""
    code = "say('STATUS=reading the configuration'); print('no such file', file=sys.stderr); sys.exit(3)"
    with pytest.raises(WaitFailed, match=r"as first came its exit \(exit code 3\)") as caught:
        managed_process(speaker(code), ready="notify", ready_timeout=None).start()
    assert "reading the configuration" in str(caught.value)
    assert "    no such file" in str(caught.value)


def test_grandchild_counts() -> None:
    """What a descendant says counts, one that has left the session too."""
    said = SPEAK + "say('READY=1')"
    code = f"import subprocess; subprocess.run(['setsid', sys.executable, '-c', {said!r}])"
    with managed_process(speaker(code), ready="notify", ready_timeout=LONG):
        pass


def test_sender_that_has_ended_counts(tmp_path: Path) -> None:
    """A sender of the tree counts where it had ended when its message was read, and nobody had reaped it: a zombie."""
    path = tmp_path / "ended"
    code = f"""
for leaves in (False, True):
    sender = os.fork()
    if sender == 0:
        if leaves:
            os.setsid()
        say("READY=1" if leaves else "STATUS=from a zombie")
        os._exit(0)
    os.waitid(os.P_PID, sender, os.WEXITED | os.WNOWAIT)
open({str(path)!r}, "w")
"""
    process = managed_process(speaker(code), ready="notify", ready_timeout=LONG)
    with nobody_reads():
        starting = Running(process.start)
        wait_for(path.exists, LONG)
    assert starting.result() is process
    assert process.status == "from a zombie"
    process.stop()


def test_stopping() -> None:
    """That a process is about to end, and why, can be awaited and read, while it runs and when it has ended."""
    code = "signal.signal(signal.SIGTERM, lambda *_: (say('STOPPING=1\\nERRNO=28'), os._exit(1)))\nsay('READY=1')"
    with managed_process(speaker(code), ready="notify", ready_timeout=LONG) as process:
        assert process.errno is None
        with pytest.raises(WaitTimeout, match=r"to say that it is stopping: 1 look, last: nothing was notified"):
            wait_for(process.stopping, 0)
        waiting = Running(wait_for, process.stopping, LONG)
        process.send_signal(signal.SIGTERM)
        assert waiting.result() is True
        wait_for(process.exited, LONG)
    assert process.errno == errno.ENOSPC
    assert wait_for(process.stopping, 0)
    with managed_process(["sleep", "infinity"]) as deaf:
        assert deaf.errno is None
        with pytest.raises(RuntimeError, match=r'is not listened to: give ready="notify"'):
            _ = deaf.stopping


def test_stranger_does_not_count() -> None:
    """READY=1 of a process that is not of the tree is ignored, and the error tells of it."""
    process = managed_process(speaker("print(os.environ['NOTIFY_SOCKET'])"), ready="notify", ready_timeout="1s")

    lied = []

    def lie() -> bool:
        # This runs in a thread of ours beside the wait: we are no member of the tree.
        name = process.output.stdout.strip()
        if name and not lied:
            lied.append(name)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"READY=1", "\0" + name[1:])
        return False

    process._plan = process._plan._replace(ready=any_of(ready_notified(), lie))
    with pytest.raises(WaitTimeout) as caught:
        process.start()
    assert f"READY=1 of process {os.getpid()}, which is not of its tree, does not count" in str(caught.value)


def test_barrier() -> None:
    """Who sends a descriptor with a message, as sd_notify_barrier does, finds it closed once the message was read."""
    code = """
reading, writing = os.pipe()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.connect("\\0" + os.environ["NOTIFY_SOCKET"][1:])
    socket.send_fds(s, [b"BARRIER=1"], [writing])
os.close(writing)
assert os.read(reading, 1) == b""
say("READY=1")
"""
    with no_descriptor_left(), managed_process(speaker(code), ready="notify", ready_timeout=LONG):
        pass


def test_combined(tmp_path: Path) -> None:
    """The notification can be one of several signs; the error of a time-out names the one that was missing."""
    path = tmp_path / "pid"
    both = all_of(ready_notified(), output_matches("serving on (.*)$"), path_exists(path))
    with pytest.raises(WaitTimeout) as caught:
        managed_process(speaker("say('READY=1'); print('serving on 7')"), ready=both, ready_timeout="1s").start()
    assert f"last: missing: {path} to exist" in str(caught.value)
    either = any_of(output_matches("never"), ready_notified())
    with managed_process(speaker("say('READY=1')"), ready=either, ready_timeout=LONG):
        pass


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a listener nothing is sent, and nothing fails."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify_ready()
    monkeypatch.setenv("NOTIFY_SOCKET", "@waitkit/nobody/listens/here")
    assert not notify_status("up")
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:2:1234")
    assert not notify_stopping()


def test_path_of_a_service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener at a path is told, too, in the words of the protocol."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        assert notify_ready()
        assert notify_ready("up")
        assert notify_stopping("no disk", errno=28)
        assert [listener.recv(100) for _ in range(3)] == [
            b"READY=1",
            b"READY=1\nSTATUS=up",
            b"STOPPING=1\nERRNO=28\nSTATUS=no disk",
        ]


def test_our_own_service_manager_is_not_the_childs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child does not inherit the socket by which we report to our own service manager."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/ours")
    with managed_process(["sh", "-c", "echo [$NOTIFY_SOCKET]"]) as process:
        wait_for(process.exited, LONG)
    assert process.output.stdout == "[]\n"


@pytest.mark.servers
def test_redis(tmp_path: Path) -> None:
    """redis-server, unmodified and told of a supervisor, is ready when it says so, and tells its status."""
    argv = ["redis-server", "--port", "0", "--unixsocket", str(tmp_path / "s"), "--supervised", "systemd"]
    with managed_process([*argv, "--save", ""], ready="notify", ready_timeout=LONG, cwd=tmp_path) as process:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
        assert "Ready to accept connections" in process.status


@pytest.mark.servers
def test_systemd_notify() -> None:
    """The command of systemd, which a shell script calls, is heard before it is gone."""
    if shutil.which("systemd-notify") is None:
        pytest.skip("systemd-notify is not installed")
    line = "systemd-notify --ready --status=scripted; exec sleep infinity"
    with managed_process(line, shell=True, ready="notify", ready_timeout=LONG) as process:
        assert process.status == "scripted"
