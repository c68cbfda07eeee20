"""Every Python example of the README and the docs is a test."""

from sybil import Sybil
from sybil.parsers.rest import PythonCodeBlockParser, SkipParser

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.rst", "docs/*.rst", "docs/howto/*.rst"],
).pytest()
