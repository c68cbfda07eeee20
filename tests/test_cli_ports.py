"""``waitkit holds`` and ``waitkit port``, with real sockets."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess

import pytest
from children import fresh_port, program
from commandline import MODULE, environment, run, run_here, shell
from support import LIMIT

from waitkit import reserved_port, reserved_ports


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
    # The system gives ports out again: a connection of somebody else's may still rest at this one.
    told["holders"] = [holder for holder in told["holders"] if holder["state"] != "TIME_WAIT"]
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
    port = fresh_port()
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", port))
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
    with subprocess.Popen(program(code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        port = process.stdout.readline().strip()
        done = run("holds", port, env=environment(PYTHONIOENCODING="ascii"))
        process.communicate("\n", timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert r"a\x1b[2Jb" in done.stdout


@pytest.mark.parametrize("words", [[], ["http"], ["0"], ["65536"], ["-5"], ["٨٠"], ["80", "81"], ["80", "--tcp"]])
def test_bad_ports(words):
    """What is no port is refused with exit code 2, which neither "held" nor "nobody" has."""
    done = run_here("holds", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "waitkit holds: error: " in done.stderr


def test_in_a_condition_of_the_shell():
    """The exit code makes it a condition of the shell."""
    port = fresh_port()  # one that the system gives to nobody who asks for any, as other tests do
    line = "if $waitkit holds $port >/dev/null 2>&1; then echo held; else echo free; fi"
    with socket.create_server(("127.0.0.1", port)):
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


# waitkit port


def test_a_port():
    """A port is printed that a server can have."""
    done = run("port")
    assert (done.returncode, done.stderr) == (0, "")
    with socket.create_server(("127.0.0.1", int(done.stdout))):
        pass


def test_several_ports():
    """Several ports come one a line, all different."""
    ports = run("port", "--count", 50).stdout.splitlines()
    assert len(set(ports)) == 50
    assert all(1 <= int(port) <= 65_535 for port in ports)


def test_ports_of_a_range():
    """--within takes them from a range, and says so where it has not so many."""
    with reserved_ports(3) as taken:
        first = min(taken)
        few = run("port", "-n", 2, "--within", f"{first}-{first}")
        assert (few.returncode, few.stdout) == (1, "")
        assert few.stderr == f"waitkit port: {first}-{first} has fewer than 2 ports\n"
        none = run("port", "--within", f"{first}-{first}")
        assert (none.returncode, none.stdout) == (1, "")
        assert none.stderr.startswith(f"waitkit port: no port from {first} to {first} is left: all are in use\n")
    found = int(run("port", "--within", "20000-29999").stdout)
    assert 20_000 <= found <= 29_999


@pytest.mark.parametrize(
    "words", [["--protocol", "udp"], ["--protocol", "both"], ["--family", "ipv4"], ["--family", "ipv6"]]
)
def test_ports_of_a_kind(words):
    """Ports can be asked for by protocol and family; a server of that kind can have them."""
    port = int(run("port", *words).stdout)
    family = socket.AF_INET6 if "ipv6" in words else socket.AF_INET
    kind = socket.SOCK_DGRAM if words[0] == "--protocol" else socket.SOCK_STREAM
    with socket.socket(family, kind) as server:
        server.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--count", "0"], "'0' is not a count: give a number from 1 to 10000"),
        (["--count", "many"], "'many' is not a count"),
        (["--within", "8000"], "'8000' is not a range of ports: give FIRST-LAST"),
        (["--within", "8000-7000"], "'8000-7000' is an empty range"),
        (["--within", "0-10"], "'0' is not a port"),
        (["--family", "ipx"], "invalid choice: 'ipx'"),
        (["--protocol", "sctp"], "invalid choice: 'sctp'"),
        (["8000"], "unrecognized arguments: 8000"),
    ],
)
def test_bad_wishes(words, says):
    """What cannot be asked for is refused with exit code 2, which "none is left" has not."""
    done = run_here("port", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
