"""``waitkit holds`` and ``waitkit port``, with real sockets."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys

import pytest
from commandline import MODULE, environment, run, shell
from support import LIMIT

from waitkit import reserved_port


def names_of(pid: int) -> tuple[str, str]:
    """The program and user of a process, as psutil has them."""
    import psutil

    process = psutil.Process(pid)
    return process.name(), process.username()


def test_who_listens():
    """A listener is a row of a table, with its process, and the exit code is 0."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = run("holds", server.getsockname()[1])
    program, user = names_of(os.getpid())
    heading, row = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert heading.split() == ["PID", "PROGRAM", "USER", "STATE", "ADDRESS"]
    assert row.split() == [str(os.getpid()), program, user, "LISTEN", "127.0.0.1"]
    assert heading.index("STATE") == row.index("LISTEN")


def test_who_listens_as_json():
    """--json tells the same, and the protocol, as one object."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run("holds", "--json", port)
    told = json.loads(done.stdout)
    program, user = names_of(os.getpid())
    assert done.returncode == 0
    assert told == {
        "port": port,
        "protocol": "tcp",
        "held": True,
        "holders": [
            {
                "pid": os.getpid(),
                "program": program,
                "user": user,
                "state": "LISTEN",
                "address": "127.0.0.1",
                "protocol": "tcp",
                "remaining": None,
            }
        ],
    }


def test_nobody():
    """A port that nobody holds gives 1, and a line on stderr, or an object that says so."""
    with reserved_port() as port:
        pass
    done = run("holds", port)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"waitkit: nobody holds tcp port {port}\n")
    told = run("holds", "--json", port)
    assert (told.returncode, json.loads(told.stdout)["held"], told.stderr) == (1, False, "")


def test_udp():
    """UDP has ports of its own."""
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert run("holds", "--udp", port).returncode == 0
        assert run("holds", port).returncode == 1


def test_what_a_server_left():
    """Connections in TIME_WAIT hold a port, too: by no process, and for how long is told."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as client:
            connection, _ = server.accept()
            connection.close()  # who closes first has the TIME_WAIT
            assert client.recv(1) == b""
    done = run("holds", address[1])
    assert done.returncode == 0
    assert re.search(r"^- +- +- +TIME_WAIT +127\.0\.0\.1 +no process; passes in [\d.]+ s$", done.stdout, re.MULTILINE)


def test_a_program_with_an_ugly_name():
    """A process may call itself anything: what would move the cursor is written as an escape."""
    code = (
        "import ctypes, socket, sys; ctypes.CDLL(None).prctl(15, b'a\\x1b[2Jb\\xc3\\xa9', 0, 0, 0)\n"
        "server = socket.create_server(('127.0.0.1', 0)); print(server.getsockname()[1], flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        port = process.stdout.readline().strip()
        done = run("holds", port, env=environment(PYTHONIOENCODING="ascii"))
        process.communicate("\n", timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert r"a\x1b[2Jb" in done.stdout


@pytest.mark.parametrize("words", [[], ["http"], ["0"], ["65536"], ["-5"], ["٨٠"], ["80", "81"], ["80", "--tcp"]])
def test_bad_ports(words):
    """What is no port is refused with exit code 2, which neither "held" nor "nobody" has."""
    done = run("holds", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "waitkit holds: error: " in done.stderr


def test_in_a_condition_of_the_shell():
    """The exit code makes it a condition of the shell."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = "if $waitkit holds $port >/dev/null 2>&1; then echo held; else echo free; fi"
        port = server.getsockname()[1]
        assert shell(line, port=port).stdout == "held\n"
    assert shell(line, port=port).stdout == "free\n"


def test_nobody_reads_the_answer():
    """A closed pipe is told by 141."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen(
            [*MODULE, "holds", str(server.getsockname()[1])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        process.stdout.close()
        _, errors = process.communicate(timeout=LIMIT)
    assert (process.returncode, errors) == (141, b"")
