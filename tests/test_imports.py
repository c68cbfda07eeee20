"""Importing: cheap, without threads, and one table says where each public name lives."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
from support import python

import waitkit

HEAVY = ("asyncio", "psutil", "wrapt", "attr", "attrs", "inspect", "logging", "subprocess", "multiprocessing", "socket")


def loaded_by(statement, *modules):
    """Which of *modules* a statement loads, beyond what an interpreter has loaded by itself."""
    run = python(f"""
        import sys, threading
        before = set(sys.modules)
        {statement}
        print(sorted(set({modules!r}) & (set(sys.modules) - before)), threading.active_count())
        """)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize(
    "statement", ["import waitkit", "from waitkit import wait_for", "from waitkit import wait_for_async"]
)
def test_import_is_cheap(statement):
    """Importing waitkit, or its main verb, loads none of the heavy modules and starts no thread."""
    assert loaded_by(statement, *HEAVY) == "[] 1"


def test_a_spawned_callable_begins_with_little():
    """What runs first in the process of a callable loads no heavy module that ``multiprocessing`` has not loaded there."""
    statement = "import multiprocessing.spawn; before |= set(sys.modules); import waitkit.processes.in_child"
    assert loaded_by(statement, *HEAVY) == "[] 1"


def test_the_table_can_tell():
    """The check above sees a heavy module where there is one."""
    assert loaded_by("import asyncio, logging", "asyncio", "logging") == "['asyncio', 'logging'] 1"


def test_importing_the_package_loads_no_other_module_of_it():
    """``import waitkit`` alone loads nothing else of waitkit."""
    run = python("import sys, waitkit; print([name for name in sys.modules if name.startswith('waitkit')])")
    assert run.stdout.strip() == "['waitkit']", run.stderr


def test_a_wait_on_a_plain_callable_stays_cheap():
    """Waiting for a callable, an event of waitkit's or a time needs no heavy module either, and no thread."""
    statement = "from waitkit import *; wait_for(lambda: 1); wait_for(any_of(Event(), after('1ms')))"
    modules = loaded_by(statement.replace("*", "wait_for, any_of, Event, after"), *HEAVY)
    assert modules == "[] 1"


@pytest.mark.parametrize(
    "thing",
    ["threading.Event()", "threading.Thread(target=int)", "notified(threading.Condition(), lambda: False)"],
)
def test_the_first_wait_on_a_thing_of_threading_loads_little(thing):
    """The first wait on an event, a thread or a condition loads our own modules alone, and neither futures nor logging."""
    run = python(f"""
        import sys, threading
        from waitkit import WaitTimeout, notified, wait_for
        thing = {thing}
        before = set(sys.modules)
        try:
            wait_for(thing, 0.001)
        except WaitTimeout:
            pass
        print(sorted(set(sys.modules) - before))
        """)
    assert run.returncode == 0, run.stderr
    loaded = ast.literal_eval(run.stdout)
    names = ("notifying", "thread_ends", "probes", "sources")
    ours = {f"waitkit.conditions.{name}" for name in names}
    # the text of a lambda in an error is found in its source
    assert set(loaded) - ours <= {"ast", "_ast", "linecache", "tokenize", "_tokenize", "token", "contextlib"}, loaded


def test_every_public_name_can_be_had():
    """Every name of __all__ can be loaded, is listed by dir(), and lives where the table says."""
    assert set(waitkit.__all__) <= set(dir(waitkit))
    for name, home in waitkit._HOMES.items():
        module = importlib.import_module(f"waitkit.{home}")
        assert getattr(waitkit, name) is getattr(module, name)
        assert name in module.__all__


def test_the_table_is_what_type_checkers_see():
    """The table of homes and the imports for type checkers name the same things, and are sorted."""
    tree = ast.parse(Path(waitkit.__file__).read_text())
    seen = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("waitkit."):
            for alias in node.names:
                assert alias.asname == alias.name, "a name is public to checkers only where it is imported 'as' itself"
                seen[alias.name] = node.module.removeprefix("waitkit.")
    assert seen == waitkit._HOMES
    assert list(waitkit._HOMES) == sorted(waitkit._HOMES)
    assert waitkit.__all__ == list(waitkit._HOMES)


def test_public_classes_say_that_they_are():
    """A public class names the package as its module, so that pickles and tracebacks show what users import."""
    classes = [thing for name in waitkit.__all__ if isinstance(thing := getattr(waitkit, name), type)]
    strangers = {thing.__name__ for thing in classes if thing.__module__ != "waitkit"}
    assert strangers <= {"Output"}


def test_dir_is_sorted_and_complete_before_anything_is_loaded():
    """dir() lists all public names of a package that has loaded none of them."""
    run = python("import waitkit; d = dir(waitkit); print(d == sorted(d), set(waitkit.__all__) <= set(d))")
    assert run.stdout.strip() == "True True"


def test_an_unknown_name_is_an_attribute_error():
    """A name that does not exist is refused as any module does."""
    with pytest.raises(AttributeError, match="module 'waitkit' has no attribute 'wait_fro'"):
        _ = waitkit.wait_fro
    with pytest.raises(ImportError):
        exec("from waitkit import sleep")


def test_star_import_gives_all_names():
    """``from waitkit import *`` gives what __all__ promises."""
    namespace = {}
    exec("from waitkit import *", namespace)
    assert set(waitkit.__all__) <= set(namespace)


def test_types_are_shipped():
    """The marker that tells checkers to use our annotations is there."""
    assert (Path(waitkit.__file__).parent / "py.typed").exists()
