"""Every Python example of the README and the docs is a test."""

import sys
from pathlib import Path

from sybil import Sybil
from sybil.parsers.rest import PythonCodeBlockParser, SkipParser

# For the tests of our own plugin, which run pytest in a directory of their own.
pytest_plugins = ["pytester"]

# A spawned process imports what it calls as ``tests.test_x``. Last, so that the waitkit that is installed is the one tested.
sys.path.append(str(Path(__file__).parent))

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.rst", "docs/*.rst", "docs/howto/*.rst"],
).pytest()
