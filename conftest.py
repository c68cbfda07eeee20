"""Every Python example of the README and the docs is a test."""

import os
import sys
from pathlib import Path

from sybil import Sybil
from sybil.parsers.rest import PythonCodeBlockParser, SkipParser

# For the tests of our own plugin, which run pytest in a directory of their own.
pytest_plugins = ["pytester"]

# A spawned process imports what it calls as ``tests.test_x``. Last, so that the waitkit that is installed is the one tested.
sys.path.append(str(Path(__file__).parent))

# The workers, and the hundreds of interpreters that tests start, compile nothing that has been compiled before: where this
# variable is set they would, each time, and half of the suite's time would be that.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.rst", "docs/*.rst", "docs/howto/*.rst"],
).pytest()
