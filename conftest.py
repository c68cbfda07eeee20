"""Every Python example of the README and the docs is a test."""

from sybil import Sybil
from sybil.parsers.rest import PythonCodeBlockParser, SkipParser

# For the tests of our own plugin, which run pytest in a directory of their own.
pytest_plugins = ["pytester"]

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.rst", "docs/*.rst", "docs/howto/*.rst"],
).pytest()
