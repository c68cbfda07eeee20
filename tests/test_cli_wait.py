"""``waitkit wait``: each kind of target as a real one that comes, goes or stays away, and how it ends."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from children import http_server
from commandline import MODULE, TOLD_SOON, Command, environment, run, run_here, shell
from support import LIMIT, python, until

from waitkit import port_listening, reserved_port


@contextmanager
def listening(port: int = 0) -> Iterator[int]:
    """A server in this process that accepts connections."""
    with socket.create_server(("127.0.0.1", port)) as server:
        yield server.getsockname()[1]


@contextmanager
def pages(*statuses: int) -> Iterator[str]:
    """A web server that gives these answers, the last again and again; the address of its page."""
    answers = list(statuses)

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/health"
        server.shutdown()
        thread.join()


SERVER = [
    *(sys.executable, "-S", "-c"),
    "import signal, socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); signal.pause()",
]


@contextmanager
def program() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stays until it is killed."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def report(text: str) -> dict[str, object]:
    """The one JSON object that was printed."""
    assert text.count("\n") == 1
    return json.loads(text)


# Targets that are there.


def test_tcp_that_listens():
    """A port that accepts connections ends the wait with 0, and a line that says so."""
    with listening() as port:
        done = run("wait", f"tcp:{port}")
        assert (done.returncode, done.stdout) == (0, "")
        assert re.fullmatch(rf"waitkit: tcp:{port} after [\d.]+ [mu]s\n", done.stderr)


@pytest.mark.parametrize("form", ["tcp:127.0.0.1:{}", "tcp:localhost:{}", "tcp://127.0.0.1:{}"])
def test_forms_of_tcp(form):
    """A host may stand before the port, and the form of a URL will do."""
    with listening() as port:
        assert run("wait", "-q", form.format(port)).returncode == 0


def test_ipv6():
    """An IPv6 address is written in brackets."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        assert run("wait", "-q", f"tcp:[::1]:{server.getsockname()[1]}").returncode == 0


@pytest.mark.parametrize("name", ["a b.pid", "żółw-\N{SNAKE}.pid", "new\nline", "--any"])
def test_files(tmp_path, name):
    """A file is found whatever its name."""
    (tmp_path / name).touch()
    assert run("wait", f"file:{tmp_path / name}").returncode == 0


def test_a_file_whose_name_is_no_text(tmp_path):
    """A name that is no UTF-8 is found, too, and told in what JSON can hold."""
    path = os.fsencode(tmp_path) + b"/\xff\xfe"
    Path(os.fsdecode(path)).touch()
    done = subprocess.run(
        [*MODULE, "wait", "--json", b"file:" + path], capture_output=True, env=environment(), timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["targets"][0]["target"].endswith("\udcff\udcfe")


def test_paths_are_relative_to_here_and_to_home(tmp_path):
    """A relative path counts from the working directory, ~ is the home directory, and file:///path is a path."""
    (tmp_path / "up").touch()
    for target in ("file:up", "file:./up", "file:~/up", f"file://{tmp_path}/up"):
        done = subprocess.run(
            [*MODULE, "wait", "-q", "-t0", target],
            cwd=tmp_path,
            env=environment(HOME=str(tmp_path)),
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, target


def test_unix_socket(tmp_path):
    """A unix socket that is listened at is there, one that merely lies there is not."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        late = run("wait", "-t0", f"unix:{path}")
        assert (late.returncode, "connection refused" in late.stderr) == (124, True)
        server.listen()
        assert run("wait", "-t0", f"unix:{path}").returncode == 0


def test_a_process_that_has_ended():
    """A process that does not exist has ended."""
    with program() as process:
        still = run("wait", "-t0", f"pid:{process.pid}")
        assert (still.returncode, "still running" in still.stderr) == (124, True)
    assert run("wait", "-t0", f"pid:{process.pid}").returncode == 0


def test_a_free_port():
    """A port that a server could have is free; for one that is taken the error names who has it."""
    with listening() as port:
        taken = run("wait", "-t0", f"free:{port}")
        assert taken.returncode == 124
        assert f"held by pid {os.getpid()} " in taken.stderr
    assert run("wait", "-t0", f"free:{port}", f"free:127.0.0.1:{port}").returncode == 0


def test_http():
    """A page is there when its status is good; which statuses are, can be said."""
    with pages(503, 503, 200) as page:
        assert run("wait", page).returncode == 0
    with pages(401) as page:
        poor = run("wait", "-t0", page)
        assert (poor.returncode, "(401 Unauthorized)" in poor.stderr) == (124, True)
        assert run("wait", "-t0", "--status", "200-204,401", page).returncode == 0


def test_a_page_that_does_not_answer():
    """A server that accepts and says nothing costs a look its patience, which can be set, and no more."""
    with listening() as port:
        done = run("wait", "--json", "-q", "-t", "60ms", "--look-timeout", "20ms", f"http://127.0.0.1:{port}/")
    assert done.returncode == 124
    assert report(done.stdout)["targets"][0]["last"] == "no answer within 20 ms"


# Targets that come, go, and stay away.


def test_a_server_that_comes():
    """While the port is awaited, a line on stderr names it and what was seen; when a server comes the wait ends."""
    with reserved_port() as port, Command("wait", f"tcp:{port}", "-t", "none", env=TOLD_SOON) as waiting:
        line = waiting.err.saw("waiting for")
        assert re.fullmatch(rf"waiting for tcp:{port} \(connection refused\): [\d.]+ m?s", line)
        with listening(port):
            assert waiting.ended() == 0
    assert re.search(rf"^waitkit: tcp:{port} after [\d.]+ m?s$", waiting.err.text, re.MULTILINE)
    assert "\x1b" not in waiting.err.text
    assert "\r" not in waiting.err.text


def test_one_of_two_never_comes(tmp_path):
    """All targets are needed: the one that stays away is named, with what was seen, and the limit ends it with 124."""
    with listening() as port:
        done = run("wait", f"tcp:{port}", f"file:{tmp_path}/never/pid", "-t", "50ms")
    assert done.returncode == 124
    assert re.match(r"waitkit: timed out after [\d.]+ m?s, \d+ looks; missing:\n", done.stderr)
    assert f"  file:{tmp_path}/never/pid (No such file or directory)\n" in done.stderr
    assert f"its folder {tmp_path}/never does not exist either" in done.stderr
    assert str(port) not in done.stderr


def test_any_of_two(tmp_path):
    """With --any one target is enough, and it is named."""
    with listening() as port:
        done = run("wait", "--any", f"file:{tmp_path}/never", f"tcp:{port}", f"file:{tmp_path}/neither")
    assert done.returncode == 0
    assert done.stderr.startswith(f"waitkit: tcp:{port} after ")


def test_any_of_none(tmp_path):
    """With --any and none there, all are named."""
    done = run("wait", "--any", f"file:{tmp_path}/a", f"file:{tmp_path}/b", "--timeout=0")
    assert done.returncode == 124
    assert "missing all of:" in done.stderr
    assert f"{tmp_path}/a " in done.stderr
    assert f"{tmp_path}/b " in done.stderr


def test_a_target_that_dies(tmp_path):
    """A server that was there and dies before the rest has come is missing again: all must hold at one time."""
    flag = tmp_path / "flag"
    with Command("wait", f"file:{flag}", f"unix:{tmp_path}/s", "-t", "300ms", "--json", env=TOLD_SOON) as waiting:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{tmp_path}/s")
            server.listen()
            assert "unix:" not in waiting.err.saw("waiting for file:")
        flag.touch()
        assert waiting.ended() == 124
    assert [(target["held"], target["last"]) for target in report(waiting.out.text)["targets"]] == [
        (True, "it exists"),
        (False, "connection refused"),
    ]


def test_unless_a_process_ends():
    """--unless ends the wait with 1 the moment the server's process is gone, whatever the limit."""
    with program() as process, reserved_port() as port:
        with Command("wait", f"tcp:{port}", "--unless", f"pid:{process.pid}", "-t", "none", env=TOLD_SOON) as waiting:
            waiting.err.saw("waiting for tcp:")
            process.kill()
            process.wait(LIMIT)
            assert waiting.ended() == 1
    assert f"as first came pid:{process.pid}" in waiting.err.text
    assert f"  tcp:{port} (connection refused)" in waiting.err.text


def test_what_holds_goes_before_unless(tmp_path):
    """Where the target and what was to prevent it hold in one look, the target counts."""
    assert run("wait", f"file:{tmp_path}", "--unless", "file:/").returncode == 0


def test_a_process_that_ends():
    """The end of a process that is none of ours is awaited by its id."""
    with program() as process, Command("wait", f"pid:{process.pid}", "-t", "none", env=TOLD_SOON) as waiting:
        waiting.err.saw(f"waiting for pid:{process.pid} (still running)")
        process.kill()
        assert waiting.ended() == 0


def test_gone():
    """With --gone a server is awaited to go away; --invert is the same."""
    with listening() as port:
        there = run("wait", "--invert", f"tcp:{port}", "-t0")
        assert (there.returncode, f"no tcp:{port} (it listens)" in there.stderr) == (124, True)
        assert report(run("wait", "--gone", f"tcp:{port}", "-t0", "--json").stdout)["gone"] is True
    assert run("wait", "--gone", f"tcp:{port}", "-t0").returncode == 0


@pytest.mark.parametrize("kind", ["file", "unix", "http"])
def test_other_things_gone(tmp_path, kind):
    """Files, sockets and pages can be awaited to be gone, too."""
    path = tmp_path / "there"
    if kind == "http":
        with pages(200) as page:
            assert run("wait", "--gone", page, "-t0").returncode == 124
        assert run("wait", "--gone", page, "-t0").returncode == 0
        return
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert run("wait", "--gone", f"{kind}:{path}", "-t0").returncode == 124
    path.unlink()
    assert run("wait", "--gone", f"{kind}:{path}", "-t0").returncode == 0


def test_no_answer_yet_is_not_gone():
    """A server whose queue is full, so that an attempt is not answered at once, is not taken for one that is gone."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        clients = []
        try:
            for _ in range(8):
                client = socket.socket()
                clients.append(client)
                client.setblocking(False)
                client.connect_ex(server.getsockname())
            port = server.getsockname()[1]
            done = run("wait", "--gone", f"tcp:127.0.0.1:{port}", "-t0")
            # Where one address of two refuses, the other one still says nothing.
            also = run("wait", "--gone", f"tcp:{port}", "-t0")
        finally:
            for client in clients:
                client.close()
    assert (done.returncode, also.returncode) == (124, 124)


def test_held_for(tmp_path):
    """--held-for wants it to hold without interruption for a while, and says where it has not held long enough."""
    long_enough = run("wait", f"file:{tmp_path}", "--held-for", "50ms", "--json")
    assert long_enough.returncode == 0
    assert report(long_enough.stdout)["elapsed"] >= 0.05
    too_short = run("wait", f"file:{tmp_path}", "--held-for", "1h", "-t", "20ms")
    assert (too_short.returncode, "it holds now, but has not for long enough" in too_short.stderr) == (124, True)
    absent = run("wait", f"file:{tmp_path}/x", "--held-for", "1ms", "-t", "20ms")
    assert (absent.returncode, f"missing:\n  file:{tmp_path}/x (" in absent.stderr) == (124, True)


# Limits.


@pytest.mark.parametrize("limit", ["0", "0s", "0ms", "0.0"])
def test_one_look(tmp_path, limit):
    """A limit of 0 is one look."""
    done = run("wait", f"file:{tmp_path}/x", "--json", "--timeout", limit)
    assert (done.returncode, report(done.stdout)["looks"]) == (124, 1)


@pytest.mark.parametrize("limit", ["50ms", "0.05", "0.05s"])
def test_forms_of_limits(tmp_path, limit):
    """A bare number is seconds."""
    done = run("wait", f"file:{tmp_path}/x", "--json", "-q", "-t", limit)
    assert done.returncode == 124
    assert report(done.stdout)["elapsed"] >= 0.05
    assert report(done.stdout)["looks"] > 1


@pytest.mark.parametrize("limit", ["none", "999999999d", "36500d"])
def test_hardly_any_limit(tmp_path, limit):
    """A limit beyond what the system's calls take works, also for a wait that rests."""
    flag = tmp_path / "flag"
    with program() as process, Command("wait", f"pid:{process.pid}", "--timeout", limit, env=TOLD_SOON) as waiting:
        waiting.err.saw("waiting for")
        process.kill()
        assert waiting.ended() == 0
    assert not flag.exists()


def test_the_default_is_stretched(tmp_path):
    """Where no limit is given it is 10 s, stretched as everywhere; one that is given stays as it is."""
    env = environment(WAITKIT_TIMEOUT_SCALE="0.005")
    told = report(run("wait", f"file:{tmp_path}/x", "--json", env=env).stdout)
    assert (told["outcome"], 0.05 <= told["elapsed"] < 9) == ("timeout", True)
    assert report(run("wait", f"file:{tmp_path}/x", "-t", "0.2", "--json", env=env).stdout)["elapsed"] >= 0.2
    bad = run("wait", "file:/", env=environment(WAITKIT_TIMEOUT_SCALE="fast"))
    assert (bad.returncode, "WAITKIT_TIMEOUT_SCALE='fast'" in bad.stderr) == (2, True)


# What it tells.


def test_json_of_a_wait_that_held(tmp_path):
    """--json prints one object, and nothing else, on stdout."""
    done = run("wait", "--json", "--any", f"file:{tmp_path}/x", f"file:{tmp_path}")
    told = report(done.stdout)
    assert 0 <= told.pop("elapsed") < LIMIT
    assert told == {
        "held": True,
        "outcome": "held",
        "looks": 1,
        "any": True,
        "gone": False,
        "targets": [
            {"target": f"file:{tmp_path}/x", "held": False, "last": "No such file or directory"},
            {"target": f"file:{tmp_path}", "held": True, "last": "it exists"},
        ],
        "unless": [],
        "error": None,
    }


@pytest.mark.parametrize(
    ("words", "code", "outcome", "error"),
    [
        ("-t 0", 124, "timeout", "timed out after"),
        ("--unless file:/", 1, "failed", "as first came file:/"),
        ("free:192.0.2.1:8080", 1, "error", "cannot wait for that: Cannot assign requested address"),
    ],
)
def test_json_of_a_wait_that_did_not(tmp_path, words, code, outcome, error):
    """The object tells how else it ended, and why."""
    done = run("wait", "--json", f"file:{tmp_path}/x", *words.split())
    told = report(done.stdout)
    assert (done.returncode, told["held"], told["outcome"]) == (code, False, outcome)
    assert error in told["error"]


def test_quiet(tmp_path):
    """--quiet leaves stderr empty, however it ends, but for bad arguments."""
    assert run("wait", "-q", "file:/").stderr == ""
    assert run("wait", "--quiet", f"file:{tmp_path}/x", "-t", "20ms").stderr == ""
    assert run("wait", "--quiet", "nonsense").stderr != ""


def test_ctrl_c(tmp_path):
    """Ctrl-C ends the wait by SIGINT, which a shell tells as 130; the object is printed all the same."""
    with Command("wait", f"file:{tmp_path}/x", "-t", "none", "--json", env=TOLD_SOON) as waiting:
        waiting.err.saw("waiting for")
        waiting.send(signal.SIGINT)
        assert waiting.ended() == -signal.SIGINT
    assert waiting.err.lines[-1] == "waitkit: interrupted\n"
    assert report(waiting.out.text)["outcome"] == "interrupted"


def test_ctrl_c_is_130_to_a_shell(tmp_path):
    """A shell that runs the command tells 130 after Ctrl-C."""
    with Command(
        way=["sh", "-c", '"$@"; echo $?', "sh", *MODULE, "wait", f"file:{tmp_path}/x", "-t", "none"], env=TOLD_SOON
    ) as script:
        script.err.saw("waiting for")
        import psutil

        (waiting,) = psutil.Process(script.process.pid).children()
        waiting.send_signal(signal.SIGINT)
        script.out.saw("130")
        script.ended()


def test_sigterm(tmp_path):
    """SIGTERM ends it as any program."""
    with Command("wait", f"file:{tmp_path}/x", "-t", "none", env=TOLD_SOON) as waiting:
        waiting.err.saw("waiting for")
        waiting.send(signal.SIGTERM)
        assert waiting.ended() == -signal.SIGTERM


def test_nobody_reads_the_object():
    """A closed pipe is told by 141, and a full disk by 1 and a line on stderr: an answer was lost."""
    process = subprocess.Popen(
        [*MODULE, "wait", "--json", "-q", "file:/"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    process.stdout.close()
    _, errors = process.communicate(timeout=LIMIT)
    assert (process.returncode, errors) == (141, b"")
    full = shell("$waitkit wait --json -q file:/ >/dev/full")
    assert full.returncode == 1
    assert full.stderr == "waitkit: cannot write the output: No space left on device\n"
    closed = shell("$waitkit wait --json -q file:/ >&-")
    assert (closed.returncode, closed.stderr) == (1, "waitkit: cannot write the output: Bad file descriptor\n")


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full", ">&- 2>&-"])
def test_nobody_hears_what_it_tells(streams, tmp_path):
    """Where stderr cannot be written to, the wait, its exit code and its command are as ever."""
    assert shell(f"$waitkit wait file:/ {streams}").returncode == 0
    assert shell(f"$waitkit wait file:{tmp_path}/x -t 0.1 {streams}", WAITKIT_TIMEOUT_SCALE=0.05).returncode == 124
    assert shell(f"$waitkit wait file:/ {streams} -- sh -c 'exit 7'").returncode == 7


def test_a_reader_that_goes_away_does_not_end_the_wait(tmp_path):
    """A pipe that is closed after the first line of progress leaves the wait as it is."""
    flag = tmp_path / "flag"
    process = subprocess.Popen([*MODULE, "wait", f"file:{flag}", "-t", "none"], stderr=subprocess.PIPE, env=TOLD_SOON)
    assert b"waiting for" in process.stderr.readline()
    process.stderr.close()
    flag.touch()
    assert process.wait(LIMIT) == 0


# The command after it.


def test_the_command_takes_our_place():
    """The command has our process id, our stdin and its own exit code: it was exec'ed."""
    process = subprocess.Popen(
        [*MODULE, "wait", "file:/", "--", "sh", "-c", "read line; echo $$ $line; exit 7"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    out, _ = process.communicate(b"tea\n", timeout=LIMIT)
    assert (process.returncode, out) == (7, b"%d tea\n" % process.pid)


def test_signals_reach_the_command():
    """A signal sent to us is the command's."""
    hear = "signal.pthread_sigmask(signal.SIG_BLOCK, [15]); print('up', flush=True); signal.sigwait([15])"
    code = f"import signal, sys; {hear}; sys.exit(3)"
    with Command("wait", "file:/", "--", sys.executable, "-S", "-c", code) as command:
        command.out.saw("up")
        command.send(signal.SIGTERM)
        assert command.ended() == 3


def test_the_command_gets_signals_as_they_were():
    """What Python ignores for itself the command does not inherit: SIGPIPE ends it as ever."""
    done = run("wait", "-q", "file:/", "--", "grep", "SigIgn", "/proc/self/status")
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1) | 1 << (signal.SIGINT - 1))


def test_arguments_of_the_command_are_its_own():
    """What follows the first -- is not read by us, and the object comes before what the command prints."""
    done = run("wait", "-q", "--json", "file:/", "--", "printf", "%s,", "--any", "--", "-t", "ä b", "")
    told, rest = done.stdout.split("\n")
    assert json.loads(told)["any"] is False
    assert rest == "--any,--,-t,ä b,,"


def test_no_command_after_a_wait_in_vain(tmp_path):
    """A command is not run where the wait did not end well."""
    done = run("wait", "-q", "-t0", f"file:{tmp_path}/x", "--", "touch", f"{tmp_path}/ran")
    assert done.returncode == 124
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("no-such-command", 127, "there is no such command"),
        ("/no/such/command", 127, "there is no such command"),
        ("", 127, "there is no such command"),
        ("{}/plain", 126, "permission denied"),
        ("{}", 126, "permission denied"),
        ("{}/orphan", 126, "its interpreter does not exist"),
        ("{}/bare", 126, "a script begins with a line such as #!/bin/sh"),
    ],
)
def test_a_command_that_cannot_be_run(tmp_path, command, code, says):
    """A command that does not exist gives 127, one that cannot be run 126, each with the reason."""
    for name, text, mode in (
        ("plain", "#!/bin/sh\n", 0o644),
        ("orphan", "#!/no/such/sh\n", 0o755),
        ("bare", "echo\n", 0o755),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    command = command.format(tmp_path)
    done = run("wait", "-q", "file:/", "--", command)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"waitkit: cannot run {command!r}: ")
    assert says in done.stderr


# Arguments.


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "the following arguments are required: TARGET"),
        (["redis://db:6379/0"], "'redis://db:6379/0' is not a target: accepted are tcp:PORT"),
        (["redis://db:6379/0"], "; for its TCP port write tcp://db:6379"),
        (["serve"], "; for a file write file:serve, and a command stands after --"),
        (["tpc:db:80"], "'tpc:db:80' is not a target: accepted are tcp:PORT"),
        (["db:http"], "'db:http' is not a target"),
        (["db:65536"], "65536 is not a port"),
        ([":80"], "'' is not a host"),
        (["::1:80"], "in brackets, [::1]:80"),
        (["5432"], "for a TCP port write tcp:5432"),
        (["ftp://host/"], "'ftp://host/' is not a target"),
        ([""], "'' is not a target"),
        (["tcp"], "'tcp' is not a target"),
        (["tcp:"], "'' is not a port"),
        (["tcp:0"], "0 is not a port"),
        (["tcp:65536"], "65536 is not a port"),
        (["tcp:99999999999999999999"], "'99999999999999999999' is not a port"),
        (["tcp:db:http"], "'http' is not a port"),
        (["tcp:٨٠"], "'٨٠' is not a port"),
        (["tcp::80"], "'' is not a host"),
        (["tcp:a..b:80"], "'a..b' is not a host"),
        (["tcp:" + "a" * 64 + ":80"], "is not a host"),
        (["tcp:::1:80"], "in brackets, [::1]:80"),
        (["http:"], "'http:' is not a target"),
        (["http://"], "'http://' is not a target"),
        (["http://h:99999/"], "'http://h:99999/' is not a target"),
        (["http://a..b/"], "'a..b' is not a host"),
        (["file:"], "it has no path"),
        (["file://host/x"], "'//host/x' names a host"),
        (["unix:" + "x" * 200], "too long for a unix socket"),
        (["pid:0"], "'0' is not the id of a process"),
        (["pid:nginx"], "'nginx' is not the id of a process"),
        (["pid:99999999999999999999999999"], "is not the id of a process"),
        (["free:x"], "'x' is not a port"),
        (["--gone", "pid:1"], "an ended process stays ended"),
        (["--gone", "free:80"], "write tcp:PORT"),
        (["file:/", "--unless", "x"], "'x' is not a target"),
        (["file:/", "-t", "10x"], "'10x' is not a duration: give seconds (60, 0.5)"),
        (["file:/", "-t", "-1"], "'-1' is not a duration"),
        (["file:/", "-t", ""], "'' is not a duration"),
        (["file:/", "-t", "inf"], "'inf' is not a duration"),
        (["file:/", "-t", "1e3"], "'1e3' is not a duration"),
        (["file:/", "-t", "9" * 30], "is not a duration"),
        (["file:/", "-t"], "expected one argument"),
        (["file:/", "--status", "2xx"], "'2xx' is not a list of statuses"),
        (["file:/", "--status", "204-200"], "an empty range: 204-200"),
        (["file:/", "--status", "99"], "'99' is not a list of statuses"),
        (["file:/", "--look-timeout", "0"], "'0' leaves no time for an answer"),
        (["file:/", "--look-timeout", "none"], "'none' is not a duration"),
        (["file:/", "--held-for", "none"], "'none' is not a duration"),
        (["file:/", "--time", "1"], "unrecognized arguments: --time"),
        (["file:/", "--"], "no command follows --"),
        (["--", "echo"], "the following arguments are required: TARGET"),
        # What other tools mean otherwise.
        (["db:5432", "-t", "0"], "no limit in wait-for-it, and one look here: with 'db:5432' write -t none"),
        (["db:5432", "-t", "0s"], "for one look write tcp:db:5432"),
        (["-h", "::1", "-p", "80", "--timeout=0"], "for one look write tcp:[::1]:80"),
        (["-h", "db"], "one -h HOST and one -p PORT belong together, here is 'db': write each target as tcp:HOST:PORT"),
        (["file:/", "-p", "80"], "belong together, here is 80"),
        (["-h", "a", "-p", "1", "-h", "b", "-p", "2"], "belong together, here is 'a', 'b', 1, 2"),
        (["-h", "db", "-p", "http"], "'http' is not a port"),
        (["-wait", "file:/", "-timeout", "1s", "serve", "--port", "80"], "'serve' is not a target"),
        (["-wait", "file:/", "-template", "a:b"], "-template is another tool's: that is dockerize's"),
        (
            ["-wait", "http://a/", "-wait-http-header", "a: b"],
            "-wait-http-header is another tool's: pages are asked for",
        ),
        (["-wait", "file:/", "-wait-retry-interval", "1s"], "looks have no fixed interval"),
        (["file:/", "-w", "1000"], "-w is another tool's: write --held-for 1s"),
        (["file:/", "-i", "100"], "looks have no fixed interval"),
        (["file:/", "--httpTimeout", "100"], "--look-timeout 1s"),
    ],
)
def test_bad_arguments(words, says):
    """Bad arguments are refused before anything is awaited: exit code 2, the value, and what is accepted."""
    done = run_here("wait", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        # wait-for-it
        "127.0.0.1:{} -t 15",
        "127.0.0.1:{} --timeout=15 --strict -q",
        "-q -s localhost:{} -t 1",
        "-h 127.0.0.1 -p {} -t 15 -s",
        "--host=127.0.0.1 --port={} --timeout=15",
        "[::ffff:127.0.0.1]:{}",
        # dockerize
        "-wait tcp://127.0.0.1:{} -wait file:/ -timeout 10s",
        "-wait=tcp://127.0.0.1:{} -timeout=1m30s",
        "--wait tcp://127.0.0.1:{} --timeout 10s",
        # wait-on
        "tcp:{} -t 30s",
        "tcp:127.0.0.1:{} file:/",
        # waitkit's own, which these leave alone
        "tcp:{} -t0",
        "tcp:127.0.0.1:{} -t 0",
    ],
)
def test_what_other_tools_call_it(words):
    """A command line of wait-for-it, dockerize or wait-on means what it meant there."""
    with listening() as port:
        awaited = run_here("wait", *words.format(port).split())
        assert awaited.returncode == 0, awaited.stderr
    ended = run_here("wait", *words.format(port).split(), "--gone", "-t", "1ms", "--any")
    assert ended.returncode == 0


def test_what_wait_on_calls_it(tmp_path):
    """socket:, http-get: and --reverse are unix:, http: and --gone."""
    with socket.socket(socket.AF_UNIX) as server, pages(200) as page:
        server.bind(f"{tmp_path}/s")
        server.listen()
        both = [f"socket:{tmp_path}/s", page.replace("http:", "http-get:")]
        done = run_here("wait", "--json", *both)
        assert (done.returncode, [one["target"] for one in report(done.stdout)["targets"]]) == (0, both)
        assert run_here("wait", "-r", "-t0", both[0]).returncode == 124
    assert run_here("wait", "--reverse", "-t0", *both).returncode == 0


def test_h_alone_is_help():
    """-h is a host where one follows, and help otherwise, as --help is."""
    short, long = run_here("wait", "file:/", "-h"), run_here("wait", "--help")
    assert (short.returncode, short.stdout) == (0, long.stdout)
    assert "usage: waitkit wait" in short.stdout


def test_bare_addresses_elsewhere(tmp_path):
    """HOST:PORT is a target wherever one is given."""
    with listening() as port:
        done = run_here("wait", f"file:{tmp_path}/x", "--unless", f"127.0.0.1:{port}")
    assert (done.returncode, f"as first came 127.0.0.1:{port}" in done.stderr) == (1, True)
    started = run("run", "--ready", "localhost:{port}", "--", *SERVER, "{port}", "--then", "true")
    assert started.returncode == 0, started.stderr


def test_options_may_stand_anywhere(tmp_path):
    """Options may stand before, between and after the targets."""
    done = run("wait", f"file:{tmp_path}/x", "--any", f"file:{tmp_path}/y", "-t0", f"file:{tmp_path}", "--json")
    assert [target["held"] for target in report(done.stdout)["targets"]] == [False, False, True]


def test_what_is_imported():
    """A wait for a port starts fast: nothing is imported for it that is there for other things."""
    heavy = (
        "asyncio",
        "psutil",
        "wrapt",
        "attr",
        "rich",
        "inspect",
        "logging",
        "subprocess",
        "multiprocessing",
        "json",
        "shutil",
        "ssl",
        "http",
    )
    with listening() as port:
        done = python(
            f"""
            import sys
            before = set(sys.modules)
            from waitkit.cli.main import main
            assert main(["wait", "-q", "tcp:{port}"]) == 0
            print(sorted(set({heavy!r}) & (set(sys.modules) - before)))
            """
        )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_real_server(tmp_path):
    """A Python web server is awaited by its port, its page, and the free port it leaves."""
    with reserved_port() as port:
        server = subprocess.Popen(
            http_server(port),
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            ready = run("wait", f"tcp:{port}", f"http://127.0.0.1:{port}/", "--unless", f"pid:{server.pid}")
            assert ready.returncode == 0, ready.stderr
            with Command("wait", "--gone", f"tcp:{port}", "-t", "none", env=TOLD_SOON) as waiting:
                waiting.err.saw(f"waiting for no tcp:{port} (it listens)")
                server.kill()
                server.wait(LIMIT)
                assert waiting.ended() == 0
        finally:
            server.kill()
            server.wait(LIMIT)
    assert run("wait", "-t0", f"free:{port}", f"pid:{server.pid}").returncode == 0


def test_two_waits_at_once():
    """Any number of commands may wait for one server."""
    with reserved_port() as port:
        waiting = [Command("wait", f"tcp:{port}", "-t", "none", env=TOLD_SOON) for _ in range(3)]
        for one in waiting:
            one.err.saw("waiting for")
        with listening(port):
            until(port_listening(port))
            assert [one.ended() for one in waiting] == [0, 0, 0]
        for one in waiting:
            one.__exit__()
