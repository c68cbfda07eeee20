"""The commands that the README and the how-to show: each can be called like that."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module

import pytest
from support import ROOT

from waitkit.cli.main import COMMANDS
from waitkit.cli.wait import _read as read_wait

HOWTO = (ROOT / "docs/howto/command_line.rst").read_text(encoding="utf-8")
README = (ROOT / "README.rst").read_text(encoding="utf-8")


def shown() -> Iterator[str]:
    """Every call of waitkit with arguments: in code blocks, and between double backquotes."""
    joined = HOWTO.replace("\\\n", " ")
    for line in joined.splitlines():
        code = re.match(r"    \s*(?:\$ )?(?:kill .* && )?(waitkit (?:wait|run|port|holds) .*)", line)
        if code and "[options]" not in line:
            yield re.split(r" \|\| | \| |; ", code[1])[0]
    for text in (joined, README):
        for code in re.findall(r"``(waitkit (?:wait|run|port|holds)\b[^`]+)``", text):
            yield code.split("; ")[0].split(" && ")[0]
    entrypoint = re.search(r"entrypoint: \[(.*)\]", HOWTO)
    assert entrypoint
    yield shlex.join([*re.findall(r'"([^"]*)"', entrypoint[1]), "command"])


@pytest.mark.parametrize("line", sorted(set(shown())))
def test_commands_shown(line):
    """A command that the documentation shows is one that is understood."""
    # What only a shell or the reader knows.
    line = re.sub(r"\$\w+|\$!", "8080", line).replace("URL", "http://localhost/")
    _, name, *words = shlex.split(line)
    if name == "wait":
        assert read_wait(words).targets
    elif name == "run":
        module = import_module("waitkit.cli.run")
        options = module._read(module._parser(), words)
        assert options.command
        assert not any("then" in word for word in options.command)
    else:
        import_module(f"waitkit.cli.{name}")._parser().parse_args(words)


def test_enough_is_shown():
    """The search above finds what there is: recipes, the table, the README."""
    found = sorted(set(shown()))
    assert len(found) >= 25
    assert any("--then pytest --redis-port" in line for line in found)


@pytest.mark.parametrize("name", ["wait", "run", "port", "holds"])
def test_every_option_is_documented(name):
    """Every option of a command stands in the how-to."""
    parser = import_module(f"waitkit.cli.{name}")._parser()
    options = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
    assert {option for option in options - {"--help"} if f"{option}" not in HOWTO} == set()


def test_every_command_is_documented():
    """Every command but the demo, which the README shows, has a section."""
    assert {name for name in COMMANDS if f"waitkit {name}\n" + "-" * (8 + len(name)) not in HOWTO} == {"demo"}
    assert "waitkit demo" in README
