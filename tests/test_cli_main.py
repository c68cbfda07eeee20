"""The command line as a whole: its commands, help, bad arguments, and how it ends where nobody listens."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest
from commandline import ENTRY, MODULE, Command, environment, run, shell
from support import LIMIT

from waitkit import __version__
from waitkit.cli.main import COMMANDS, main

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@pytest.mark.parametrize("way", [MODULE, ENTRY], ids=["module", "entry"])
def test_version(way):
    """``--version`` prints the version, as a module and through the entry point of the script."""
    done = run("--version", way=way)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"waitkit {__version__}\n", "")


def test_the_entry_point_is_the_one_that_is_installed():
    """The script that packaging installs calls the function that the tests call."""
    from support import ROOT

    assert "waitkit = waitkit.cli.main:main" in (ROOT / "setup.cfg").read_text()


def test_help_names_all_commands():
    """``--help`` lists every command with a line of its own."""
    done = run("--help")
    assert done.returncode == 0
    for name, about in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(about)}$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(name):
    """Each command explains itself, in plain characters."""
    done = run(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: waitkit {name} ")
    assert not CONTROL.search(done.stdout)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "give a command, of "),
        (["wiat"], "there is no command 'wiat', only"),
        ([""], "there is no command '', only"),
        (["--colour"], "'--colour' is no option here"),
        (["--vers"], "'--vers' is no option here"),
        (["demo", "fast"], "unrecognized arguments: fast"),
        (["demo", "--with"], "unrecognized arguments: --with"),
    ],
)
def test_bad_arguments(words, says):
    """What cannot be meant ends with exit code 2, and an error on stderr that names it."""
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_only_the_called_command_is_imported():
    """A command does not pay for the others."""
    code = """
    import sys
    from waitkit.cli.main import main
    try:
        main(["demo", "--help"])
    finally:
        print([name for name in sys.modules if name.startswith("waitkit.cli.")], file=sys.stderr)
    """
    from support import python

    loaded = python(code).stderr
    assert "'waitkit.cli.demo'" in loaded
    assert not [name for name in COMMANDS if name != "demo" and f"'waitkit.cli.{name}'" in loaded]


def test_main_takes_arguments(capsys):
    """Called from Python with arguments, ``main`` runs the same command line."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"waitkit {__version__}\n"


def test_an_interrupt_in_python_is_a_code(monkeypatch, capsys):
    """Called from Python, an interrupt is the exit code 130, and does not end the caller."""

    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("waitkit.cli.demo.run", interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "waitkit: interrupted\n"


@pytest.mark.parametrize("words", ["--help", "--version", "demo --help"])
def test_nobody_reads_the_help(words):
    """A pipe that its reader has closed is told by exit code 141, without a traceback."""
    process = subprocess.Popen(
        [*MODULE, *words.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(PYTHONUNBUFFERED=""),
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=LIMIT)
    assert (process.returncode, errors) == (141, "")


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"])
@pytest.mark.parametrize(("words", "code"), [("--version", 0), ("wiat", 2)])
def test_streams_that_are_closed_or_full(words, code, streams):
    """Streams that cannot be written to bring neither a traceback nor another exit code, but where an answer is lost."""
    done = shell(f"$waitkit {words} {streams}")
    assert "Traceback" not in done.stderr
    if words == "--version" and streams == ">/dev/full":
        assert done.returncode != 0
    else:
        assert done.returncode == code


def test_a_shell_script_stops_at_ctrl_c(tmp_path):
    """After Ctrl-C the command has ended by SIGINT, so that the script around it does not go on with its next line."""
    with Command(
        way=["bash", "-c", '"$@" demo >&2; echo went on', "bash", *MODULE], env=environment(stuck(tmp_path))
    ) as script:
        script.err.saw("the demo runs")
        import os

        os.killpg(script.process.pid, signal.SIGINT)
        script.ended()
        assert "went on" not in script.out.text
        assert script.process.returncode == -signal.SIGINT


def stuck(folder):
    """Where to import a waitkit from whose demo says that it runs, and waits for ever."""
    from commandline import demo_site

    demo = folder / "demo"
    demo.mkdir()
    (demo / "__init__.py").touch()
    (demo / "run.py").write_text(
        "import waitkit\n\ndef run(name):\n    print('the demo runs', flush=True)\n    waitkit.wait_for(waitkit.Event(), None)\n    yield\n"
    )
    return demo_site(folder / "site", demo)
