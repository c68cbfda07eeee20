"""Fixtures of which a test needs that they are set up before its others, so that they are torn down after them."""

from __future__ import annotations

import pytest

__all__ = ["put_first"]


def put_first(test: pytest.Function, name: str) -> None:
    """Have *test* set up the fixture *name* before the others of a test's scope; those of wider scopes stay before it."""
    known = test._fixtureinfo.name2fixturedefs
    others = [other for other in test.fixturenames if other != name]
    own = [other for other in others if other in known and known[other][-1].scope == "function"]
    others.insert(others.index(own[0]) if own else len(others), name)
    # A list of its own: the one that is there belongs to all tests that are made of one function.
    test.fixturenames = others
