"""What a child runs in: environment, folder, user, limits. Checked when written, applied to programs and callables alike."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import Any, AnyStr, NamedTuple

from waitkit.processes import lending

__all__ = [
    *("Surroundings", "apply_limits", "check_surroundings", "environment_for", "environment_of_program"),
    "popen_options",
]

#: What a service manager told *us*. A child that found it would report to that manager in our name.
_NOT_FOR_CHILDREN = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
_NOT_FOR_CHILDREN_RAW = tuple(map(os.fsencode, _NOT_FOR_CHILDREN))


class Surroundings(NamedTuple):
    """See :func:`waitkit.managed_process`; ``None`` is always "as ours"."""

    env: Mapping[str, str] | None = None
    cwd: str | None = None
    user: str | int | None = None
    group: str | int | None = None
    #: number of the resource -> soft and hard limit
    limits: tuple[tuple[int, tuple[int, int]], ...] = ()

    def enter(self, additions: Mapping[str, str]) -> None:
        """Take them on in this process, a child that runs a Python callable."""
        environment = environment_for(self.env, additions)
        os.environ.clear()
        os.environ.update(environment)
        if self.cwd is not None:
            os.chdir(self.cwd)
        apply_limits(self.limits)
        if self.group is not None:
            os.setgid(_group_id(self.group))
        if self.user is not None:
            _become(self.user, keep_group=self.group is not None)

    def with_our_environment(self) -> Surroundings:
        """The same with our environment of now, where it is ours that is meant."""
        return self if self.env is not None else self._replace(env=environment_for(None, {}))

    def refused(self) -> OSError:
        """The error where the system refuses the limits."""
        import resource

        names = {number: name for name, number in reversed(_known_limits().items())}  # of two for one, the common name
        limits = "; ".join(
            f"{names[number]}={pair!r}, where ours is {resource.getrlimit(number)!r}" for number, pair in self.limits
        )
        return PermissionError(errno.EPERM, f"the system refuses these ulimits of soft and hard: {limits}")


def environment_for(env: Mapping[str, str] | None, additions: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: *env*, or ours without what was meant for us alone; with *additions*."""
    return {**_without(_NOT_FOR_CHILDREN, os.environ), **additions} if env is None else {**env, **additions}


def _without(names: tuple[AnyStr, ...], environment: Mapping[AnyStr, AnyStr]) -> dict[AnyStr, AnyStr]:
    kept = dict(environment)
    for name in names:
        kept.pop(name, None)
    return kept


def environment_of_program(
    env: Mapping[str, str] | None, additions: Mapping[str, str], defaults: Mapping[str, str]
) -> Mapping[str, str] | Mapping[bytes, bytes]:
    """The same for ``Popen``, with *defaults* for what neither has.

    What a program gets are bytes, and ``os.environ`` keeps them so: where its dict can be had, as in CPython, it is copied as it
    is. To decode each of them, for ``Popen`` to encode it again, takes a thirtieth of the start and end of a small program.
    """
    ours = getattr(os.environ, "_data", None)
    if env is not None or os.name != "posix" or not isinstance(ours, dict):
        return {**defaults, **environment_for(env, additions)}
    return {**_encoded(defaults), **_without(_NOT_FOR_CHILDREN_RAW, ours), **_encoded(additions)}


def _encoded(environment: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}


def _become(user: str | int, *, keep_group: bool) -> None:
    import pwd

    number = user if isinstance(user, int) else pwd.getpwnam(user).pw_uid
    if os.geteuid() == 0:
        try:
            entry = pwd.getpwuid(number)
        except KeyError:
            os.setgroups([])
        else:
            os.initgroups(entry.pw_name, entry.pw_gid)
            if not keep_group:
                os.setgid(entry.pw_gid)
    os.setuid(number)


def _group_id(group: str | int) -> int:
    import grp

    return group if isinstance(group, int) else grp.getgrnam(group).gr_gid


def apply_limits(limits: tuple[tuple[int, tuple[int, int]], ...]) -> None:
    """Set resource limits of this process."""
    if limits:
        import resource

        for number, pair in limits:
            resource.setrlimit(number, pair)


def popen_options(surroundings: Surroundings, mark: int) -> dict[str, Any]:
    """What ``Popen`` is told of the user and the limits, where they are asked for."""
    options: dict[str, Any] = {}
    if surroundings.user is not None:
        options["user"] = surroundings.user
        options |= _groups_of(surroundings.user, surroundings.group)
    elif surroundings.group is not None:
        options["group"] = surroundings.group
    if surroundings.limits:
        options["preexec_fn"] = _limiter(surroundings.limits, mark)
    return options


def _groups_of(user: str | int, group: str | int | None) -> dict[str, Any]:
    """The group of *user*, unless another one is wanted, and the further groups it belongs to; only root can change them."""
    if os.geteuid() != 0:
        return {} if group is None else {"group": group}
    import pwd

    try:
        entry = pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
    except KeyError:
        return {"extra_groups": []} if group is None else {"group": group, "extra_groups": []}
    return {
        "group": entry.pw_gid if group is None else group,
        "extra_groups": os.getgrouplist(entry.pw_name, entry.pw_gid),
    }


def _limiter(limits: tuple[tuple[int, tuple[int, int]], ...], mark: int) -> Callable[[], None]:
    import resource

    def apply() -> None:
        for number, pair in limits:
            resource.setrlimit(number, pair)
        lending.mark(0, mark)  # a fork that runs Python has put the one before back

    return apply


def check_surroundings(
    env: Mapping[str, str] | None,
    cwd: str | os.PathLike[str] | None,
    user: str | int | None,
    group: str | int | None,
    ulimits: Mapping[str, int | tuple[int, int]] | None,
) -> Surroundings:
    """The same, checked.

    Raises:
        TypeError, ValueError: one cannot be what it should be.
    """
    if env is not None and not isinstance(env, Mapping):
        raise TypeError(f"env={env!r} is no mapping of names to values; for ours and more write {{**os.environ, ...}}")
    for name, value in (env or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"env has {name!r}: {value!r}: both must be text, so write str(...) around it")
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(
                f"env has {name!r}: {value!r}: a name has at least one character and no '=', and nothing has a null character"
            )
    for what, given in (("user", user), ("group", group)):
        if given is not None and (isinstance(given, bool) or not isinstance(given, str | int) or given == ""):
            raise TypeError(f"{what}={given!r} is none: give a name or a number")
        if isinstance(given, int) and given < 0:
            raise ValueError(f"{what}={given!r} is none: its number is 0 or more")
    _must_exist(user, group)
    if cwd is not None and (not isinstance(cwd, str | os.PathLike) or not os.fspath(cwd)):
        raise TypeError(f"cwd={cwd!r} is not a path: give a str or a pathlib.Path")
    folder = None if cwd is None else os.fspath(cwd)
    return Surroundings(None if env is None else dict(env), folder, user, group, _limits(ulimits))


def _must_exist(user: str | int | None, group: str | int | None) -> None:
    if isinstance(user, str):
        import pwd

        try:
            pwd.getpwnam(user)
        except KeyError:
            raise ValueError(f"user={user!r} does not exist on this system") from None
    if isinstance(group, str):
        import grp

        try:
            grp.getgrnam(group)
        except KeyError:
            raise ValueError(f"group={group!r} does not exist on this system") from None


def _limits(ulimits: Mapping[str, int | tuple[int, int]] | None) -> tuple[tuple[int, tuple[int, int]], ...]:
    if ulimits is not None and not isinstance(ulimits, Mapping):
        raise TypeError(f'ulimits={ulimits!r} is no mapping: give limits by their names, as in {{"nofile": 1024}}')
    if not ulimits:
        return ()
    known = _known_limits()
    limits = []
    for name, given in ulimits.items():
        number = known.get(name.lower()) if isinstance(name, str) else None
        if number is None:
            raise ValueError(f"ulimits has {name!r}, which is no limit of this system: there are {', '.join(known)}")
        pair = given if isinstance(given, tuple) else (given, given)
        if len(pair) != 2 or any(isinstance(part, bool) or not isinstance(part, int) or part < -1 for part in pair):
            raise ValueError(
                f"ulimits[{name!r}]={given!r} is no limit: give a number, or a pair of soft and hard; -1 for none"
            )
        soft, hard = (float("inf") if part == -1 else part for part in pair)
        if soft > hard:
            raise ValueError(f"ulimits[{name!r}]={given!r} has a soft limit above the hard one")
        limits.append((number, pair))
    return tuple(limits)


def _known_limits() -> dict[str, int]:
    """The limits of this system, by their names, in the order of these."""
    import resource

    return {name[7:].lower(): getattr(resource, name) for name in sorted(dir(resource)) if name.startswith("RLIMIT_")}
