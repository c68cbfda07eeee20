"""``waitkit demo``: the real one from start to end, interrupted, cut off, and what it says of tests that fail."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest
from commandline import MODULE, WITH_SITE, Command, demo_site, environment, nobody_left, run, without_rich
from support import LIMIT

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@pytest.fixture
def real(tmp_path: Path) -> dict[str, str]:
    """The environment in which the demo is what the examples are."""
    return environment(demo_site(tmp_path / "site"))


def canned(folder: Path, waiting: str, sleeping: str = "") -> dict[str, str]:
    """The environment in which the demo yields these outcomes, each the arguments of one."""
    demo = folder / "demo"
    demo.mkdir()
    (demo / "__init__.py").touch()
    (demo / "run.py").write_text(
        "from collections import namedtuple\n"
        "def Outcome(title, error=None, seconds=0.01, waits=(), slept=0.0, would_sleep=1.5):\n"
        "    kind = namedtuple('Outcome', 'title error seconds waits waited slept would_sleep')\n"
        "    return kind(title, error, seconds, waits, sum(s for _, s in waits), slept, would_sleep)\n"
        f"def run(name): yield from {{'waiting': [{waiting}], 'sleeping': [{sleeping}]}}[name]\n"
    )
    return environment(demo_site(folder / "site", demo))


#: What takes longer than a second is told of while it goes on, and on a busy machine anything may.
WAITS = r"(waiting for .*\n)*"


@pytest.mark.parametrize("rich", [True, False], ids=["rich", "plain"])
def test_the_demo_passes(real, tmp_path, rich):
    """All 26 tests pass, each with its times; not at a terminal there is no control character, with rich or without."""
    if not rich:
        real["PYTHONPATH"] = f"{without_rich(tmp_path / 'plain')}:{real['PYTHONPATH']}"
    done = run("demo", env=real, way=MODULE if rich else WITH_SITE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(WAITS, done.stderr)
    assert len(re.findall(r"^ *\d+ ok  .* waited +[\d.]+ m?s, sleeping: +[\d.]+ m?s$", done.stdout, re.MULTILINE)) == 26
    assert re.search(r"^Waiting edition .* 26 of 26 tests passed$", done.stdout, re.MULTILINE)
    assert re.search(r"^Sleeping edition +4\d\.\d\d s +of sleeps alone", done.stdout, re.MULTILINE)
    assert not CONTROL.search(done.stdout)


def test_ctrl_c_in_the_middle(real):
    """Ctrl-C ends the demo at once, by SIGINT, and leaves no service behind."""
    with Command("demo", env=real) as demo, nobody_left(demo):
        demo.out.saw(" 3 ok ")
        demo.send(signal.SIGINT)
        assert demo.ended() == -signal.SIGINT
    assert re.fullmatch(f"{WAITS}waitkit: interrupted\n", demo.err.text)
    assert "Waiting edition" not in demo.out.text


@pytest.mark.slow
def test_ctrl_c_while_it_sleeps(real):
    """Ctrl-C ends the sleeping edition, too, in one of its sleeps, which come after the waiting edition."""
    with Command("demo", "--with-sleeps", env=real) as demo, nobody_left(demo):
        # On a busy machine it may have failed: that is what is wrong with sleeping.
        assert re.search(r"^  1 (ok|FAILED) .* slept +[\d.]+ m?s$", demo.out.saw("slept"))
        demo.send(signal.SIGINT)
        assert demo.ended() == -signal.SIGINT
    assert re.fullmatch(f"{WAITS}waitkit: interrupted\n", demo.err.text)
    assert demo.out.text.count(" ok ") < 52


@pytest.mark.slow
def test_ctrl_c_that_is_ignored(real):
    """Where Ctrl-C is ignored already, as in the background of a script, it goes on being ignored."""
    with Command(way=["sh", "-c", 'trap "" INT; exec "$@"', "sh", *MODULE, "demo"], env=real) as demo:
        demo.out.saw(" 3 ok ")
        demo.send(signal.SIGINT)
        assert demo.ended() == 0


def test_nobody_reads(real):
    """Where its reader goes away the demo ends with 141, without a word, and leaves no service behind."""
    with (
        Command("demo", env=real, way=["sh", "-c", '{ "$@"; echo $? >&2; } | head -2', "sh", *MODULE]) as demo,
        nobody_left(demo),
    ):
        demo.ended()
    assert re.fullmatch(f"{WAITS}141\n", demo.err.text)


def test_without_the_example(tmp_path):
    """Where the example is not installed the demo says so, with exit code 2."""
    done = run("demo", env=environment(demo_site(tmp_path, None)))
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install" in done.stderr


def test_an_example_that_is_broken_is_no_missing_one(tmp_path):
    """An example that cannot be imported for another reason is not taken for one that is not there."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "__init__.py").write_text("import no_such_module\n")
    done = run("demo", env=environment(demo_site(tmp_path / "site", tmp_path / "demo")))
    assert done.returncode == 1
    assert "No module named 'no_such_module'" in done.stderr


def test_a_failed_test(tmp_path):
    """A test that fails is shown with its error, counted, and makes the exit code 1."""
    outcomes = "Outcome('one passes'), Outcome('one fails', 'AssertionError: tea\\nis cold'), Outcome('another', waits=(('tea to boil', 0.25),))"
    done = run("demo", env=canned(tmp_path, outcomes))
    assert done.returncode == 1
    assert "  2 FAILED one fails" in done.stdout
    assert "AssertionError: tea\n           is cold\n" in done.stdout
    assert "2 of 3 tests passed" in done.stdout
    assert "tea to boil, in 1 test\n" in done.stdout
    assert re.search(r"^Sleeping edition +4\.50 s", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(("fails", "code"), [(None, 0), ("OSError: down", 1)])
def test_both_editions(tmp_path, fails, code):
    """``--with-sleeps`` runs and measures the other edition, too, and its failures count."""
    sleeping = f"Outcome('one', {fails!r}, seconds=2.0, slept=1.75)"
    done = run("demo", "--with-sleeps", env=canned(tmp_path, "Outcome('one')", sleeping))
    assert done.returncode == code
    assert "\nThe same tests, sleeping:\n" in done.stdout
    assert re.search(r"^  sleeps +1\.75 s   added up beforehand: 1\.50 s$", done.stdout, re.MULTILINE)
    assert re.search(r"^  work +250\.0 ms$", done.stdout, re.MULTILINE)


def test_an_unread_pipe_does_not_hang(real):
    """The demo started by a program that closes the pipe at once ends, too."""
    process = subprocess.Popen([*MODULE, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=real)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=LIMIT)
    assert (process.returncode, errors) == (141, b"")
