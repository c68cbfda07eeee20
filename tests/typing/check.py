"""What type checkers say of the public names: errors exactly where a line is marked ``# E: why``, and nowhere else.

Every other file of this folder is checked by mypy and by pyright, one process each; it is never run. To add a file is all
there is to do. Run with ``pytest tests/typing/check.py``; it needs the extra ``lint``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FILES = sorted(path for path in HERE.glob("*.py") if path != Path(__file__).resolve())

Places = set[tuple[str, int]]


def marked() -> Places:
    """The lines that must be errors."""
    return {
        (path.name, number)
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"# E: \S", line)
    }


def run(*command: str) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)
    assert ran.returncode in (0, 1), f"{command[0]} failed: {ran.stdout}{ran.stderr}"
    return ran.stdout


def mypy(folder: Path) -> dict[tuple[str, int], str]:
    """What mypy reports, by file and line."""
    output = run(
        *(sys.executable, "-m", "mypy", "--strict", "--python-version=3.11", "--no-error-summary", "--config-file="),
        "--disable-error-code=unused-coroutine",  # that of a line that only asserts a type
        *(f"--cache-dir={folder}", "--no-pretty", "--hide-error-context", *map(str, FILES)),
    )
    found = re.findall(r"^(.+?):(\d+): error: (.*)$", output, re.MULTILINE)
    return {(Path(file).name, int(line)): text for file, line, text in found}


def pyright(_folder: Path) -> dict[tuple[str, int], str]:
    """What pyright reports, by file and line; its settings are in a file, so that editors find them, too."""
    output = run(sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(HERE))
    report = json.loads(output[output.index("{") :])
    assert report["summary"]["filesAnalyzed"] >= len(FILES)
    return {
        (Path(found["file"]).name, found["range"]["start"]["line"] + 1): found["message"]
        for found in report["generalDiagnostics"]
        if found["severity"] == "error"
    }


@pytest.mark.timeout(400)  # the first run of pyright installs it
@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
def test_errors_where_they_are_marked(checker, tmp_path):
    """Each marked line is an error, and no other is: all that is right is accepted with its exact type."""
    found = checker(tmp_path)
    expected = marked()
    assert {place: text for place, text in found.items() if place not in expected} == {}
    assert expected - set(found) == set(), "these lines were accepted"


def test_something_is_checked():
    """There are files, and lines in them that must be errors."""
    assert len(FILES) >= 4
    assert len(marked()) >= 20
