"""``waitkit run``: real commands that become ready, fail, are stopped, and leave nothing behind."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest
from commandline import MODULE, TOLD_SOON, Command, environment, nobody_left, run, run_here
from support import LIMIT, until

from waitkit import port_free, process_exited, wait_for
from waitkit.processes import tree

#: A server that tells the signals it gets, and ends at SIGTERM with code 3.
SERVER = """
import os, signal, socket, sys
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # a handler may come in the middle of print()
def told(number, _):
    say("got", signal.Signals(number).name)
    if number == signal.SIGTERM:
        sys.exit(3)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT):
    signal.signal(number, told)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
waking, writer = socket.socketpair()
writer.setblocking(False)
signal.set_wakeup_fd(writer.fileno())
say("listening", os.getpid())
while True:
    waking.recv(1)  # not pause(): the handler of a signal that comes just before that runs only after the next one
"""

#: A second command that does likewise, without a port.
SECOND = SERVER.replace('server = socket.create_server(("127.0.0.1", int(sys.argv[1])))', "").replace(
    "listening", "second"
)

#: One that does not go when it is asked.
STUBBORN = "import os, signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"


def py(code: str, *words: str) -> list[str]:
    return [sys.executable, "-S", "-c", code, *words]


def serving(*options: str) -> Command:
    """A run of the server above."""
    return Command("run", *options, "--ready", "tcp:{port}", "--", *py(SERVER, "{port}"))


@pytest.fixture(autouse=True)
def _no_children_left() -> Iterator[None]:
    """No test leaves a process behind that carries its mark."""
    mark = f"WAITKIT_TEST_RUN_{os.getpid()}_{os.urandom(4).hex()}"
    os.environ[mark] = "1"
    yield
    del os.environ[mark]

    def left() -> list[int]:  # one that has ended has no environment any more
        return [pid for pid in psutil.pids() if mark.encode() in tree.read(f"/proc/{pid}/environ")]

    try:
        until(lambda: not left(), "every process of the test to be gone")
    finally:
        for pid in left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


# Ready.


@pytest.mark.servers
def test_a_redis():
    """A redis on a free port is ready when it accepts connections; SIGTERM stops it, and its exit code is ours."""
    with Command(
        "run", "--ready", "tcp:{port}", "--", "redis-server", "--port", "{port}", "--save", "", "--bind", "127.0.0.1"
    ) as redis:
        line = redis.err.saw("ready after")
        told = re.fullmatch(r"ready after [\d.]+ m?s: redis-server \(pid (\d+)\) on port (\d+)", line)
        assert told
        with socket.create_connection(("127.0.0.1", int(told[2]))) as client:
            client.sendall(b"PING\r\n")
            assert client.recv(16) == b"+PONG\r\n"
        redis.send(signal.SIGTERM)
        assert redis.ended() == 0
    assert "Ready to accept connections" in redis.out.text
    wait_for(process_exited(int(told[1])), 0)
    wait_for(port_free(int(told[2])), LIMIT)


def test_ready_is_told_once_it_is_true():
    """The line on stderr comes when the server accepts connections, and tells its port and process."""
    with serving() as server:
        pid = server.out.saw("listening").split()[1]
        told = re.fullmatch(
            rf"ready after [\d.]+ m?s: python[\d.]* \(pid {pid}\) on port (\d+)", server.err.saw("ready")
        )
        assert told
        socket.create_connection(("127.0.0.1", int(told[1]))).close()
        server.send(signal.SIGTERM)
        assert server.ended() == 3
    assert server.out.lines[-1] == "got SIGTERM\n"


def test_several_conditions(tmp_path):
    """All conditions of --ready are needed, and ports can have names."""
    words = ["--ready", "tcp:{port:api}", "--ready", f"file:{tmp_path}/up", "--"]
    code = SERVER.replace('say("listening"', 'open(sys.argv[2], "w").close(); say("listening"')
    with Command("run", *words, *py(code, "{port:api}", f"{tmp_path}/up")) as server:
        assert re.search(r"on port \d+ \(api\)$", server.err.saw("ready after"))
        assert (tmp_path / "up").exists()
        server.send(signal.SIGTERM)
        assert server.ended() == 3


def test_placeholders():
    """Equal placeholders are equal ports, others differ, and what merely looks like one stays."""
    done = run(
        "run",
        "--",
        "printf",
        "%s\n",
        "{port}",
        "a{port}b",
        "{port2}",
        "{port:x}",
        "{ports}",
        "{Port}",
        "{}",
        "{port 1}",
    )
    one, again, two, named, *rest = done.stdout.split("\n")
    assert again == f"a{one}b"
    assert len({one, two, named}) == 3
    assert all(1 <= int(port) <= 65_535 for port in (one, two, named))
    assert rest == ["{ports}", "{Port}", "{}", "{port 1}", ""]
    assert re.fullmatch(rf"started: printf \(pid \d+\) on ports {one}, {two} and {named} \(x\)\n", done.stderr)


def test_a_server_that_wants_the_port_for_itself():
    """A server that cannot bind a reserved port gets it with --release, which gives it up just before."""
    code = (
        "import socket, sys\ns = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); signal.pause()"
    )
    code = f"import signal; {code}"
    held = run("run", "--ready", "tcp:{port}", "--", *py(code, "{port}"))
    assert held.returncode == 1
    assert "Address already in use" in held.stderr
    with Command("run", "--release", "--ready", "tcp:{port}", "--", *py(code, "{port}")) as released:
        released.err.saw("ready after")


# Its streams and its end.


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("exit 0", 0), ("kill -9 $$", 137), ("kill -15 $$", 143)])
def test_its_exit_code_is_ours(script, code):
    """The exit code is the command's; 128 + N where a signal ended it, as a shell has it."""
    done = run("run", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_output_passes_through():
    """Both streams are ours: nothing is copied, mixed up or changed, binary or long."""
    code = (
        "import os, sys\n"
        "for _ in range(40): os.write(1, bytes(range(256)) * 256); os.write(2, b'\\xff\\x00' * 4_096)\n"
        "print(os.isatty(1), os.fstat(1).st_ino == int(sys.argv[1]))"
    )
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [*MODULE, "run", "--", *py(code, str(os.fstat(writer).st_ino))],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    os.close(writer)
    with open(reader, "rb") as out:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor() as pool:
            both = pool.submit(out.read), pool.submit(process.stderr.read)
            stdout, stderr = (one.result(LIMIT) for one in both)
    process.stderr.close()
    assert process.wait(LIMIT) == 0
    assert stdout == bytes(range(256)) * 256 * 40 + b"False True\n"
    assert stderr == b"\xff\x00" * 4_096 * 40


def test_it_reads_nothing():
    """The command finds its standard input at its end: it is ours to give to the second one."""
    first = py("import sys; print(sys.stdin.read() == '', flush=True); import signal; signal.pause()")
    process = subprocess.Popen(
        [*MODULE, "run", "-q", "--ready", "file:/", "--", *first, "--then", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    out, _ = process.communicate(b"for the second\n", timeout=LIMIT)
    assert process.returncode == 0
    assert b"for the second\n" in out


def test_what_it_started_goes_with_it(tmp_path):
    """A process that the command left behind is killed with it."""
    done = run("run", "--", "sh", "-c", f"sleep infinity & echo $! >{tmp_path}/pid")
    assert done.returncode == 0
    wait_for(process_exited(int((tmp_path / "pid").read_text())), LIMIT)


def test_killed_itself():
    """Where waitkit itself is killed, the command goes with it."""
    with serving() as server:
        pid = int(server.out.saw("listening").split()[1])
        server.send(signal.SIGKILL)
        assert server.ended() == -signal.SIGKILL
        wait_for(process_exited(pid), LIMIT)


# Not ready.


def test_the_server_of_somebody_else():
    """A port at which somebody else listens does not make the command ready, and who it is is told."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run("run", "--ready", f"tcp:{port}", "--ready-timeout", "50ms", "--", "sleep", "infinity")
    assert done.returncode == 124
    assert f"tcp:{port} (" in done.stderr
    assert str(os.getpid()) in done.stderr


def test_it_ends_before_it_is_ready():
    """A command that ends before it is ready gives its exit code at once, and what was missing is told."""
    done = run(
        "run", "--ready", "tcp:{port}", "--ready-timeout", "none", "--", "sh", "-c", "echo no config >&2; exit 4"
    )
    assert done.returncode == 4
    assert re.match(
        r"no config\nwaitkit run: sh \(pid \d+\) ended \(exit code 4\) before it was ready; missing:\n  tcp:\d+ \(connection refused\)\n$",
        done.stderr,
    )


def test_it_ends_well_before_it_is_ready():
    """A command that ends with 0, and was never ready, is no success: 1."""
    assert run("run", "--ready", "tcp:{port}", "--", "true").returncode == 1


def test_it_is_not_ready_in_time():
    """A command that is not ready in time is stopped: 124."""
    with (
        Command("run", "--ready", "tcp:{port}", "--ready-timeout", "50ms", "--", "sleep", "infinity") as sleeper,
        nobody_left(sleeper),
    ):
        assert sleeper.ended() == 124
    assert re.match(
        r"waitkit run: sleep \(pid \d+\) was not ready after [\d.]+ m?s; missing:\n  tcp:\d+ \(connection refused\)",
        sleeper.err.text,
    )


def test_progress_while_it_becomes_ready(tmp_path):
    """A command that takes its time is told of: what is missing, in plain lines."""
    with Command(
        "run", "--ready", f"file:{tmp_path}/up", "--ready-timeout", "none", "--", "sleep", "infinity", env=TOLD_SOON
    ) as sleeper:
        line = sleeper.err.saw("waiting for")
        assert re.fullmatch(
            rf"waiting for sleep \(pid \d+\) to be ready: file:{tmp_path}/up \(No such file or directory\): [\d.]+ m?s",
            line,
        )
        (tmp_path / "up").touch()
        sleeper.err.saw("ready after")


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("no-such-command", 127, "there is no such command"),
        ("/", 126, "permission denied"),
        ("/etc/passwd", 126, "permission denied"),
    ],
)
def test_a_command_that_cannot_be_run(command, code, says):
    """A command that does not exist gives 127, one that cannot be run 126; so does the second one, and the first is stopped."""
    first = run("run", "--", command)
    assert (first.returncode, first.stdout, first.stderr) == (code, "", f"waitkit: cannot run {command!r}: {says}\n")
    second = run("run", "-q", "--ready", "file:/", "--", "sleep", "infinity", "--then", command)
    assert (second.returncode, second.stderr) == (code, f"waitkit: cannot run {command!r}: {says}\n")


# Signals.


def test_ctrl_c():
    """Ctrl-C stops the command by its stop signal, and the exit code is the command's."""
    with serving() as server:
        server.err.saw("ready")
        server.send(signal.SIGINT)
        assert server.ended() == 3
    assert server.out.lines[-1] == "got SIGTERM\n"


def test_another_stop_signal():
    """--stop-signal says what asks the command to end."""
    with serving("--stop-signal", "usr1", "--stop-timeout", "0") as server:
        server.err.saw("ready")
        server.send(signal.SIGTERM)
        assert server.ended() == 137


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_other_signals_are_passed_on(number):
    """Without a terminal SIGHUP and the user's signals are the command's, and do not end us."""
    with serving() as server:
        server.err.saw("ready")
        for _ in range(3):
            server.send(number)
            server.out.saw(f"got {number.name}")
            server.out.lines[:] = []
        server.send(signal.SIGTERM)
        assert server.ended() == 3


def test_it_does_not_go_when_asked():
    """A command that ignores the stop signal is killed when its time is over."""
    with Command("run", "--stop-timeout", "20ms", "--", *py(STUBBORN)) as stubborn:
        stubborn.out.saw("up")
        stubborn.send(signal.SIGTERM)
        assert stubborn.ended() == 137


def test_a_second_ctrl_c():
    """A second Ctrl-C takes away the patience with a command that does not go."""
    with Command(
        "run",
        "--stop-timeout",
        "1h",
        "--",
        *py(STUBBORN.replace("signal.SIG_IGN", "lambda *_: os.write(1, b'asked\\n')")),
    ) as stubborn:
        stubborn.out.saw("up")
        stubborn.send(signal.SIGINT)
        stubborn.out.saw("asked")
        stubborn.send(signal.SIGINT)
        assert stubborn.ended() == 137


def test_a_signal_before_it_is_ready(tmp_path):
    """A signal that comes while the command is not ready yet stops it, too."""
    with Command("run", "--ready", f"file:{tmp_path}/never", "--ready-timeout", "none", "--", *py(SECOND)) as command:
        command.out.saw("second")
        command.send(signal.SIGTERM)
        assert command.ended() == 3
    assert "ready after" not in command.err.text


def test_ctrl_c_that_is_ignored():
    """Where Ctrl-C is ignored already it goes on being ignored."""
    words = ["run", "--ready", "tcp:{port}", "--", *py(SERVER, "{port}")]
    with Command(way=["sh", "-c", 'trap "" INT; exec "$@"', "sh", *MODULE, *words]) as server:
        server.err.saw("ready")
        server.send(signal.SIGINT)
        server.send(signal.SIGUSR1)
        server.out.saw("got SIGUSR1")
        assert server.process.poll() is None
        server.send(signal.SIGTERM)
        assert server.ended() == 3


# A second command.


def test_then():
    """The second command runs once the first is ready, has its port, and its exit code is ours; the first is stopped."""
    client = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))).close(); sys.exit(5)"
    with Command("run", "--ready", "tcp:{port}", "--", *py(SERVER, "{port}"), "--then", *py(client, "{port}")) as both:
        assert both.ended() == 5
    assert both.out.lines[-1] == "got SIGTERM\n"


def test_then_is_found_once():
    """The first --then divides; a further one, and any --, belong to the second command."""
    done = run(
        "run", "-q", "--ready", "file:/", "--", "sleep", "infinity", "--then", "printf", "%s,", "--then", "--", "-x"
    )
    assert (done.returncode, done.stdout) == (0, "--then,--,-x,")


def test_the_first_dies_while_the_second_runs(tmp_path):
    """The end of the first while the second runs is told; the exit code is still that of the second."""
    first = f"until [ -e {tmp_path}/die ]; do read line <{tmp_path}/fifo; done; exit 6"
    os.mkfifo(tmp_path / "fifo")
    # Open for both directions, which waits for no reader: the first may have seen the file, and gone, before.
    second = f"touch {tmp_path}/die; exec 3<>{tmp_path}/fifo; echo >&3; read line; echo $line"
    process = subprocess.Popen(
        [*MODULE, "run", "--ready", "file:/", "--", "sh", "-c", first, "--then", "sh", "-c", second],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    process.stderr.readline()
    assert re.fullmatch(
        r"waitkit run: sh \(pid \d+\) has ended \(exit code 6\) while sh runs\n", process.stderr.readline()
    )
    out, _ = process.communicate("all the same\n", timeout=LIMIT)
    assert (process.returncode, out) == (0, "all the same\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_second_runs(number):
    """A stop signal is passed on to the second command, whose exit code is ours; then the first is stopped."""
    second = SECOND.replace("== signal.SIGTERM", f"== {int(number)}").replace("sys.exit(3)", "sys.exit(9)")
    with Command("run", "--ready", "tcp:{port}", "--", *py(SERVER, "{port}"), "--then", *py(second)) as both:
        both.out.saw("second")
        both.send(number)
        assert both.ended() == 9
    assert both.out.text.count(f"got {number.name}") == (2 if number == signal.SIGTERM else 1)
    assert both.out.lines[-1] == "got SIGTERM\n"


def test_the_second_does_not_go():
    """A second command that ignores the signal is killed when its time is over."""
    with Command(
        "run", "--stop-timeout", "20ms", "--ready", "tcp:{port}", "--", *py(SERVER, "{port}"), "--then", *py(STUBBORN)
    ) as both:
        both.out.saw("up")
        both.send(signal.SIGTERM)
        assert both.ended() == 137


#: A second command that starts a process, tells of it, and ends by SIGTERM without it.
STARTING = "sleep infinity & echo started $!; wait"


def started(command: Command) -> int:
    return int(command.out.saw("started").split()[1])


def test_what_the_second_has_started_goes_with_it():
    """A signal ends the second command, and what that has started is ended with it."""
    with Command("run", "--ready", "file:/", "--", "sleep", "infinity", "--then", "sh", "-c", STARTING) as both:
        pid = started(both)
        both.send(signal.SIGTERM)
        assert both.ended() == 143
    wait_for(process_exited(pid), 0)


def test_what_the_second_leaves_behind():
    """What is left of the second command when it has ended goes, too, whatever it did to leave its group."""
    second = "setsid sleep infinity & echo started $!; exit 5"
    with Command("run", "--ready", "file:/", "--", "sleep", "infinity", "--then", "sh", "-c", second) as both:
        assert both.ended() == 5
    wait_for(process_exited(started(both)), 0)


def test_killed_itself_while_the_second_runs():
    """Where waitkit itself is killed, the second command goes with it, and what that has started."""
    with Command("run", "--ready", "tcp:{port}", "--", *py(SERVER, "{port}"), "--then", "sh", "-c", STARTING) as both:
        pids = [int(both.out.saw("listening").split()[1]), started(both)]
        (second,) = [one for one in psutil.Process(both.process.pid).children() if one.name() == "sh"]
        both.send(signal.SIGKILL)
        for process in (*pids, second):
            wait_for(process_exited(process), LIMIT)


def test_no_signal_is_lost_while_the_second_is_started():
    """A signal that came before there was a second command ends the run without one."""
    with Command("run", "--ready", "tcp:{port}", "--", *py(SERVER, "{port}"), "--then", *py(SECOND)) as both:
        both.out.saw("listening")
        both.send(signal.SIGTERM)  # at any moment of the start of the second
        assert both.ended() in (3, 143)
    assert both.out.lines[-1] == "got SIGTERM\n"


def test_other_signals_go_to_the_second():
    """What is passed on goes to the second command while it runs."""
    with Command("run", "--ready", "tcp:{port}", "--", *py(SERVER, "{port}"), "--then", *py(SECOND)) as both:
        both.out.saw("second")
        both.send(signal.SIGUSR1)
        both.out.saw("got SIGUSR1")
        both.send(signal.SIGTERM)
        both.ended()
    assert both.out.text.count("got SIGUSR1") == 1


@pytest.mark.servers
def test_start_server_and_test():
    """A redis, and a client that needs it, in one line: what start-server-and-test does."""
    done = run(
        *(
            "run",
            "-q",
            "--ready",
            "tcp:{port}",
            "--",
            "redis-server",
            "--port",
            "{port}",
            "--save",
            "",
            "--loglevel",
            "warning",
        ),
        *("--then", "redis-cli", "-p", "{port}", "ping"),
    )
    assert (done.returncode, "PONG" in done.stdout.splitlines()) == (0, True)


# At a terminal.


class AtTerminal:
    """A command that leads a session with a terminal of its own."""

    def __init__(self, *words: object) -> None:
        import pty

        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*MODULE, *map(str, words)],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env=environment(),
        )
        os.close(theirs)
        from commandline import Lines

        self.out = Lines(self.process.stdout)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LIMIT)
        self.out.close()


def test_ctrl_c_at_a_terminal_comes_once():
    """Ctrl-C at a terminal reaches the second command by itself: it is not passed on once more."""
    second = SECOND.replace("== signal.SIGTERM", "== signal.SIGUSR1")
    with AtTerminal("run", "--ready", "tcp:{port}", "--", *py(SERVER, "{port}"), "--then", *py(second)) as both:
        both.out.saw("second")
        os.write(both.ours, b"\x03")
        both.out.saw("got SIGINT")
        both.process.send_signal(signal.SIGKILL)
        # Its first command would have been told by now.
        pid = int(re.search(r"second (\d+)", both.out.text)[1])
        server = int(re.search(r"listening (\d+)", both.out.text)[1])
        for one in (pid, server):
            try:
                os.kill(one, signal.SIGKILL)
            except ProcessLookupError:
                pass
        os.close(both.ours)
    assert both.out.text.count("got SIGINT") == 1


def test_the_second_has_the_terminal():
    """The second command is in the foreground of our terminal, and reads it."""
    second = "import os; print(os.tcgetpgrp(0) == os.getpgrp(), os.ttyname(0) == os.ttyname(0), input(), flush=True)"
    words = ["run", "-q", "--ready", "file:/", "--", "sleep", "infinity", "--then", *py(second)]
    with AtTerminal(*words) as both:
        os.write(both.ours, b"tea\n")
        both.out.saw("True True tea")
        assert both.process.wait(LIMIT) == 0
        os.close(both.ours)


def test_a_terminal_that_is_closed():
    """When its terminal goes away the command is stopped: a SIGHUP would only have it read its configuration anew."""
    with AtTerminal("run", "--ready", "tcp:{port}", "--", *py(SERVER, "{port}")) as server:
        server.out.saw("ready after")
        os.close(server.ours)
        server.out.saw("got SIGTERM")
        assert server.process.wait(LIMIT) == 3
    assert "got SIGHUP" not in server.out.text


# Arguments.


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "give the command to run after --"),
        (["--"], "give the command to run after --"),
        (["--", "--then", "true"], "give the command to run after --"),
        (["redis-server"], "unrecognized arguments: redis-server"),
        (["--ready", "file:/", "--", "true", "--then"], "no command follows --then"),
        (["--", "true", "--then", "true"], "say when that is, with --ready"),
        (["--ready", "5432", "--", "true"], "for a TCP port write tcp:5432"),
        (["--ready", "tcp:{ports}", "--", "true"], "'{ports}' is not a port"),
        (
            ["--ready", "tcp:{prot}", "--", "true"],
            "{prot} is no placeholder: for a free port write {port}, {port2}, or {p",
        ),
        (["--ready", "db:{port}:{0}", "--", "true"], "; {0} is no placeholder: for a free port write {port}"),
        (["--ready", "tcp:{port:}", "--", "true"], "{port:} in 'tcp:{port:}' names no port"),
        (["--", "true", "{port:a b}"], "{port:a b} in '{port:a b}' names no port"),
        (["--ready-timeout", "soon", "--", "true"], "'soon' is not a duration"),
        (["--stop-timeout", "none", "--", "true"], "'none' is not a duration"),
        (["--stop-signal", "NOSUCH", "--", "true"], "'NOSUCH' is not a signal"),
    ],
)
def test_bad_arguments(words, says):
    """Bad arguments are refused before anything is started: exit code 2, the value, and what is accepted."""
    done = run_here("run", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_scale():
    """A WAITKIT_TIMEOUT_SCALE that is none is refused before anything is started."""
    done = run("run", "--", "echo", "started", env=environment(WAITKIT_TIMEOUT_SCALE="fast"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "WAITKIT_TIMEOUT_SCALE='fast'" in done.stderr
    limits = ("--ready-timeout", "1s", "--stop-timeout", "1s")
    done = run("run", *limits, "--", "echo", "started", env=environment(WAITKIT_TIMEOUT_SCALE="fast"))
    assert (done.returncode, done.stdout) == (2, "")


def test_quiet():
    """--quiet leaves stderr to the command."""
    done = run("run", "-q", "--ready", "file:/", "--", *py("print('{port}')"))
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 0
