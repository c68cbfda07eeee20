"""The rules of the house, held against the source itself: where threads may rest, what imports what, sizes."""

from __future__ import annotations

import ast
import configparser
import gc
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "waitkit"

MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60


@cache
def parsed(path: Path) -> ast.Module:
    """The tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def nodes(tree: ast.Module) -> tuple[ast.AST, ...]:
    """All that is in a tree."""
    return tuple(ast.walk(tree))


@pytest.fixture(scope="module", autouse=True)
def _trees_go_with_this_file() -> Iterator[None]:
    """A million objects without a cycle: each collection of garbage would go through them, now and later."""
    gc.disable()
    yield
    for cached in (parsed, nodes, context_variables, methods_of, names_of_ours):
        cached.cache_clear()
    gc.enable()


def sources(folder: str) -> list[Path]:
    """The Python files below a folder of the checkout."""
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "_build" not in path.parts)


def named(path: Path) -> str:
    """A path as this file writes it."""
    return path.relative_to(ROOT).as_posix()


# Where time passes.


class Rest(NamedTuple):
    """A call that may let a thread rest."""

    file: str
    line: int
    text: str


#: Calls by these names rest until something happens, whatever they are called on.
ALWAYS = {
    *("wait", "wait_for", "acquire", "communicate", "result", "accept", "connect", "create_connection", "getaddrinfo"),
    *("recv", "recv_bytes", "recv_into", "recvfrom", "recvmsg", "getresponse", "urlopen", "serve_forever", "input"),
    *("wait3", "wait4", "waitid", "waitpid", "sigwait", "sigwaitinfo", "sigtimedwait", "pause", "flock", "lockf"),
    *("check_call", "check_output", "system", "sleep", "handle_request"),
}

#: What of that waitkit does, and why it may.
PERMITTED = {
    ("waitkit/engine/clock.py", "acquire"): "the one place where a thread rests",
    ("waitkit/engine/descriptors.py", "select"): "the one thread that waits for descriptors",
    ("waitkit/engine/selector.py", "poll"): "that one, on Linux",
    ("waitkit/engine/selector.py", "select"): "that one, elsewhere",
    ("waitkit/engine/descriptor_place.py", "poll"): "where a thread rests that nothing but a descriptor can wake",
    ("waitkit/rates/api.py", "acquire"): "a limiter's own, which is judged where it is",
    ("waitkit/processes/ready_signalled.py", "recv_bytes"): "after poll() has said that something is there",
    ("waitkit/processes/guardian.py", "waitpid"): "with WNOHANG",
    ("waitkit/processes/guard.py", "poll"): "in the guardian, which is a program of its own and has nothing else to do",
    ("waitkit/processes/gone.py", "waitpid"): "with WNOHANG",
    ("waitkit/conditions/processes.py", "waitid"): "with WNOHANG",
    ("waitkit/processes/notifications.py", "recvmsg"): "of a socket that does not block",
    ("waitkit/ports/addresses.py", "connect"): "of UDP, which sends nothing",
    (
        "waitkit/ports/addresses.py",
        "getaddrinfo",
    ): "the name service offers nothing else; a thread of its own asks, or a wait of one look",
    ("waitkit/ports/sock_diag.py", "recv"): "of a socket that does not block: the kernel answers within the question",
    ("waitkit/ports/http.py", "connect"): "a look that may_block, with a timeout",
    ("waitkit/ports/http.py", "recv"): "a look that may_block, with a timeout",
    ("waitkit/virtual/turns.py", "acquire"): "where virtual time is, and so no other place to rest at",
    ("waitkit/virtual/monitor.py", "wait"): "the thread that watches over virtual time, and lives in real time",
    ("waitkit/virtual/monitor.py", "join"): "of that thread, which has been told to end",
}

#: Where the word for sleeping may stand.
SLEEPS = {
    "examples/rpc_service/sleeping.py": "shows what sleeping costs",
    "waitkit/virtual/outer_time.py": "puts a virtual wait in the place of sleeping",
    "tests/test_virtual_clock.py": "sleeps in virtual time",
    "tests/test_virtual_driven.py": "sleeps in virtual time",
    "tests/test_virtual_faults.py": "sleeps in virtual time",
    "tests/test_virtual_more.py": "sleeps in virtual time",
}


def is_zero(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0 and node.value is not False


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def called(call: ast.Call) -> str:
    """The last word of what is called; none where that is no name."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def keyword(call: ast.Call, *names: str) -> ast.expr | None:
    return next((given.value for given in call.keywords if given.arg in names), None)


@cache
def context_variables(tree: ast.Module) -> set[str]:
    """The names that a module binds to a ContextVar, at its top."""
    found = set()
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Call) and called(value) == "ContextVar":
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]  # type: ignore[union-attr]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@cache
def methods_of(tree: ast.Module) -> set[str]:
    """The methods that the classes of a module define: what they do is judged there."""
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    classes = [node for node in nodes(tree) if isinstance(node, ast.ClassDef)]
    return {item.name for kind in classes for item in kind.body if isinstance(item, functions)}


@cache
def names_of_ours(tree: ast.Module) -> set[str]:
    """The functions that a module defines or takes from waitkit: what they do is judged where they are."""
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in nodes(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "waitkit":
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def get_is_harmless(call: ast.Call, receiver: ast.expr, tree: ast.Module) -> bool:
    """Whether ``receiver.get(...)`` is that of a mapping, a ContextVar, or a class of the same module; not a queue's."""
    if keyword(call, "block", "timeout") is not None:
        return False
    if call.args:
        return not (isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, bool))
    if isinstance(receiver, ast.Name) and receiver.id in context_variables(tree):
        return True
    return "get" in methods_of(tree)


def rests(call: ast.Call, tree: ast.Module) -> bool:
    """Whether a call may let its thread rest. Where the syntax cannot tell, it may."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id in ALWAYS and function.id not in names_of_ours(tree)
    if not isinstance(function, ast.Attribute):
        return False
    name, receiver = function.attr, function.value
    if name in methods_of(tree) and ast.unparse(receiver) == "self":
        return False
    if name == "join":
        # That of str only where the text stands there: a thread, process or queue has no other name for it.
        return not (is_text(receiver) or ast.unparse(receiver) in ("os.path", "posixpath"))
    if name == "get":
        return not get_is_harmless(call, receiver, tree)
    if name == "select":
        timeout = keyword(call, "timeout") or (call.args[-1] if call.args else None)
        return not is_zero(timeout)
    if name == "poll":
        # Of processes and connections it takes no argument and never rests; that of select.poll() needs its 0.
        of_select = f"{ast.unparse(receiver)} = select.poll()" in ast.unparse(tree)
        return (of_select or bool(call.args or call.keywords)) and not is_zero(call.args[0] if call.args else None)
    if name == "acquire" and call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value is False:
        return False  # it only tries
    if name == "run":
        return ast.unparse(receiver) == "subprocess"
    return name in ALWAYS


def resting_calls(path: Path) -> Iterator[Rest]:
    """All calls of a file that may let a thread rest."""
    tree = parsed(path)
    for node in nodes(tree):
        if isinstance(node, ast.Call) and rests(node, tree):
            yield Rest(named(path), node.lineno, called(node))


@cache
def all_resting_calls() -> tuple[Rest, ...]:
    return tuple(rest for path in sources("waitkit") for rest in resting_calls(path))


def test_nothing_rests_but_what_may() -> None:
    """No call in waitkit lets a thread rest but those named above, each with its reason."""
    assert [rest for rest in all_resting_calls() if (rest.file, rest.text) not in PERMITTED] == []


def test_permissions_are_needed() -> None:
    """Each exception to the rule is one that waitkit makes use of; what nobody needs is struck out."""
    assert PERMITTED.keys() <= {(rest.file, rest.text) for rest in all_resting_calls()}


def test_one_place_parks() -> None:
    """Where a thread rests is the clock: the rest of a place, in real time and in virtual time, and nowhere else."""
    rests = {rest.file for rest in all_resting_calls() if rest.text in ("acquire", "wait", "wait_for")}
    of_a_limiter, of_the_monitor = "waitkit/rates/api.py", "waitkit/virtual/monitor.py"
    assert rests - {of_a_limiter, of_the_monitor} == {"waitkit/engine/clock.py", "waitkit/virtual/turns.py"}
    methods = [
        function
        for node in parsed(PACKAGE / "engine/clock.py").body
        if isinstance(node, ast.ClassDef)
        for function in node.body
        if isinstance(function, ast.FunctionDef)
        and any(
            isinstance(call, ast.Call)
            and called(call) == "acquire"
            and ast.unparse(call.func).endswith("token.acquire")
            for call in ast.walk(function)
        )
    ]
    assert [method.name for method in methods] == ["__init__", "renew", "rest"]  # the first two take a lock that is new


def test_one_place_asks_for_frames() -> None:
    """CPython's own function may stand still for ever; waitkit/engine/frames.py keeps that from it."""
    found = {
        named(path)
        for path in sources("waitkit") + sources("tests")
        if "_current_frames" in path.read_text(encoding="utf-8")
        for node in nodes(parsed(path))
        if isinstance(node, ast.Attribute) and node.attr == "_current_frames"
    }
    assert found == {"waitkit/engine/frames.py"}


def test_few_places_select() -> None:
    """Who waits for descriptors is the engine, in one thread, and a thread that nothing else can wake. All others only look.

    The guardian is another program.
    """
    assert {rest.file for rest in all_resting_calls() if rest.text in ("select", "poll")} == {
        "waitkit/engine/descriptor_place.py",
        "waitkit/engine/descriptors.py",
        "waitkit/engine/selector.py",
        "waitkit/processes/guard.py",
    }


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("time.sleep(1)", True),
        ("sleep(1)", True),
        ("condition.wait()", True),
        ("event.wait(timeout=0.1)", True),
        ("thread.join()", True),
        ("thread.join(5)", True),
        ("worker.join(timeout=1)", True),
        ("', '.join(parts)", False),
        ("f'{a}'.join(parts)", False),
        ("os.path.join(a, b)", False),
        ("items.get()", True),
        ("items.get(timeout=1)", True),
        ("items.get(True)", True),
        ("items.get(False)", True),
        ("mapping.get(key)", False),
        ("mapping.get('a', None)", False),
        ("current: ContextVar[int] = ContextVar('current')\ncurrent.get()", False),
        ("lock.acquire()", True),
        ("lock.acquire(False)", False),
        ("lock.acquire(True, 1)", True),
        ("self._lock.acquire()", True),
        ("self.acquire()", True),
        ("class Limiter:\n    def acquire(self): ...\nself.acquire()", False),
        ("from waitkit.waiting import wait_for\nwait_for(x)", False),
        ("from asyncio import wait_for\nwait_for(x)", True),
        ("lock.acquire(timeout=2)", True),
        ("selector.select()", True),
        ("selector.select(0.5)", True),
        ("selector.select(0)", False),
        ("select.select(a, b, c)", True),
        ("select.select(a, b, c, 0)", False),
        ("process.poll()", False),
        ("connection.poll(1)", True),
        ("poller = select.poll()\npoller.poll()", True),
        ("poller = select.poll()\npoller.poll(0)", False),
        ("subprocess.run(argv)", True),
        ("future.result()", True),
        ("os.waitpid(pid, 0)", True),
    ],
)
def test_rule_knows_what_rests(code: str, expected: bool) -> None:
    """The rule by which calls are judged finds what rests, and leaves their namesakes alone."""
    tree = ast.parse(code)
    call = next(
        node.value for node in reversed(tree.body) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    )
    assert rests(call, tree) is expected


def sleeps(tree: ast.Module) -> Iterator[int]:
    """The lines that sleep, or take hold of a function that does."""
    for node in nodes(tree):
        if isinstance(node, ast.Attribute) and node.attr == "sleep" and ast.unparse(node.value) in ("time", "_time"):
            yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module in ("time", "asyncio"):
            yield from (node.lineno for alias in node.names if alias.name == "sleep")
        elif isinstance(node, ast.Call) and called(node) == "sleep" and ast.unparse(node.func) == "asyncio.sleep":
            if not is_zero(
                node.args[0]
            ):  # sleep(0) is how a task lets others have a turn: it does not guess at any time
                yield node.lineno


@pytest.mark.parametrize("folder", ["waitkit", "tests", "examples"])
def test_nothing_sleeps(folder: str) -> None:
    """Neither waitkit nor its tests and examples sleep, but where that is what they are about."""
    found = [
        f"{named(path)}:{line}"
        for path in sources(folder)
        if named(path) not in SLEEPS
        for line in sleeps(parsed(path))
    ]
    assert found == []


def test_rule_knows_what_sleeps() -> None:
    """The rule finds a sleep in each of its forms."""
    forms = ("time.sleep(1)", "nap = time.sleep", "from time import sleep", "asyncio.sleep(0.1)", "asyncio.sleep(gap)")
    for form in forms:
        assert list(sleeps(ast.parse(form))) == [1], form
    assert list(sleeps(ast.parse("asyncio.sleep(0)"))) == []


@pytest.mark.parametrize("folder", ["waitkit", "tests", "examples"])
def test_no_bare_except(folder: str) -> None:
    """Whatever is caught is named."""
    found = [
        f"{named(path)}:{node.lineno}"
        for path in sources(folder)
        for node in nodes(parsed(path))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert found == []


# Floors.


def layers() -> list[str]:
    """The floors, the highest first, from the contract that import-linter keeps too."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    return list(filter(None, settings["importlinter:contract:floors"]["layers"].split("\n")))


@cache
def optional_parts() -> set[str]:
    """The parts that are not there in every installation; the contract has them in brackets."""
    return set(re.findall(r"\((\w+)\)", " ".join(layers())))


@cache
def floors() -> dict[str, int]:
    """The rank of each part of waitkit."""
    return {part: rank for rank, layer in enumerate(layers()) for part in re.findall(r"\w+", layer)}


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The modules of waitkit that a module imports: at its top, in functions, for types, or by a name in a text."""
    for node in nodes(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"waitkit(\.\w+)+", str(node.value)):
            if str(node.value).split(".")[1] not in optional_parts():  # their name may stand anywhere, to be tried
                yield node.lineno, str(node.value)


def floor_of(module: str) -> str | None:
    """The part of waitkit that a module belongs to."""
    first, *rest = module.split(".")
    return rest[0] if first == "waitkit" and rest else None


def test_every_part_has_a_floor() -> None:
    """Each package and module directly in waitkit is in the contract."""
    parts = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert parts - {"__init__"} <= set(floors())


def test_imports_go_downwards() -> None:
    """A module imports only from its own floor and those below, also where import-linter does not see it."""
    ranks = floors()
    wrong = []
    for path in sources("waitkit"):
        here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if here == "__init__":
            continue
        for line, module in imported(parsed(path)):
            there = floor_of(module)
            if there is not None and there != here and ranks.get(there, -1) <= ranks.get(here, -1):
                wrong.append(f"{named(path)}:{line} imports {module}")
    assert wrong == []


def test_imports_are_absolute() -> None:
    """No import is relative: each names what it takes from where."""
    found = [
        f"{named(path)}:{node.lineno}"
        for path in sources("waitkit")
        for node in nodes(parsed(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert found == []


# Sizes.


def test_files_are_short() -> None:
    """No file of waitkit is longer than 400 lines."""
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources("waitkit")}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_OF_A_FILE} == {}


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function, its decorators and docstring left out."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_functions_are_short() -> None:
    """No function of waitkit is longer than 60 lines."""
    found = {
        f"{named(path)}:{node.lineno} {node.name}": length(node)
        for path in sources("waitkit")
        for node in nodes(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and length(node) > MOST_LINES_OF_A_FUNCTION
    }
    assert found == {}
