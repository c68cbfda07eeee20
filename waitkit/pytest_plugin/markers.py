"""Markers that give arguments: bad ones are an error of the test that has them, and of no other."""

from __future__ import annotations

from typing import NoReturn

import pytest

__all__ = ["refuse"]


def refuse(marker: pytest.Mark, why: str) -> NoReturn:
    """Fail the test whose *marker* gives what cannot be taken. Called in its setup."""
    given = [*map(repr, marker.args), *(f"{name}={value!r}" for name, value in marker.kwargs.items())]
    # Not pytest.fail(): that would show the error that led here, too.
    raise pytest.fail.Exception(f"@pytest.mark.{marker.name}({', '.join(given)}): {why}", pytrace=False) from None
