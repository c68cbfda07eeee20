# ruff: noqa: F403, F405
"""``from waitkit import *``: a notebook gets all names, with their types."""

from typing import assert_type

from waitkit import *

assert_type(wait_for(Value(5).equals(5)), int)
print(reserved_port, virtual_clock)
