"""Every public name refuses bad input when it is written, with an error that names the value or what is accepted."""

from __future__ import annotations

import socket
import threading
from unittest.mock import Mock

import pytest

import waitkit
from waitkit import (
    CancelScope,
    Event,
    RateLimiter,
    RestartPolicy,
    Value,
    after,
    all_of,
    any_of,
    consistently,
    consistently_async,
    defaults,
    evict_port,
    fail_after,
    http_ok,
    log_long_waits,
    managed_process,
    move_on_after,
    notified,
    notify_ready,
    notify_status,
    notify_stopping,
    output_matches,
    path_exists,
    port_free,
    port_listening,
    process_exited,
    rate_limited,
    readable,
    ready_notified,
    recording,
    reserved_port,
    reserved_ports,
    reserved_socket_path,
    set_defaults,
    socket_activation,
    started,
    subscribe,
    unix_socket_listening,
    virtual_clock,
    wait_for,
    wait_for_async,
    who_holds,
)

BAD_DURATIONS = [-1, float("nan"), float("inf"), True, "10", "10 parsecs", "s", "", "1s1m", [], b"1s"]


async def _coroutine(value: object = None) -> bool:
    return False


def _entered(manager: object) -> None:
    with manager:
        pass


async def coroutine_function() -> None: ...


@pytest.mark.parametrize("bad", BAD_DURATIONS, ids=repr)
@pytest.mark.parametrize(
    "call",
    [
        lambda bad: wait_for(Event(), bad),
        lambda bad: wait_for_async(Event(), bad),
        lambda bad: consistently(Event(), bad),
        lambda bad: after(bad),
        lambda bad: Event().held_for(bad),
        lambda bad: fail_after(bad),
        lambda bad: move_on_after(bad),
        lambda bad: CancelScope(bad),
        lambda bad: set_defaults(timeout=bad),
        lambda bad: set_defaults(probe_cap=bad),
        lambda bad: _entered(defaults(timeout=bad)),
        lambda bad: subscribe(print, progress_after=bad),
        lambda bad: log_long_waits(bad),
        lambda bad: http_ok("http://localhost/", look_timeout=bad),
        lambda bad: evict_port(1, timeout=bad),
        lambda bad: managed_process(["true"], ready_timeout=bad),
        lambda bad: managed_process(["true"], stop_timeout=bad),
        lambda bad: RateLimiter("1/s").acquire(timeout=bad),
        lambda bad: RateLimiter("1/s").reserve(timeout=bad),
        lambda bad: RateLimiter("1/s").penalize(bad),
        lambda bad: rate_limited("1/s", timeout=bad),
    ],
)
def test_durations(call, bad):
    """What is no duration is refused, with the value and the accepted forms."""
    with pytest.raises((TypeError, ValueError), match="accepted are") as caught:
        call(bad)
    assert repr(bad) in str(caught.value)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: wait_for(None), "None is not a condition"),
        (lambda: wait_for(5), r"5 is not a condition.*readable\(5\), port_listening\(5\)"),
        (lambda: wait_for("redis"), "'redis' is not a condition"),
        (lambda: wait_for(Event(), unless=5), "unless=5 is not a condition"),
        (lambda: wait_for(Event(), ignore="OSError"), "ignore='OSError'"),
        (lambda: wait_for(Event(), ignore=(OSError, SystemExit)), "SystemExit"),
        (lambda: wait_for(Event(), message=5), "message=5"),
        (lambda: wait_for_async(None), "None is not a condition"),
        (lambda: consistently(None, 1), "None is not a condition"),
        (lambda: consistently(Event(), 1, message=5), "message=5"),
        (lambda: any_of(), "at least one"),
        (lambda: all_of(), "at least one"),
        (lambda: any_of(Event(), 7), "7 is not a condition"),
        (lambda: Event() | "x", "'x' is not a condition"),
        (lambda: Event() & None, "None is not a condition"),
        (lambda: Event().described(""), "''"),
        (lambda: Event().described(5), "5"),
        (lambda: fail_after(None), "timeout=None"),
        (lambda: move_on_after(None), "timeout=None"),
        (lambda: Value(0).satisfies(5), "5"),
        (lambda: notified(threading.Lock(), bool), "threading.Condition first"),
        (lambda: notified(threading.Condition(), 5), "5"),
        (lambda: notified(threading.Condition(), lambda x: x), r"needs arguments \(x\)"),
        (lambda: notified(threading.Condition(), _coroutine), "_coroutine.* is a coroutine function"),
        (lambda: Value(0).satisfies(_coroutine), "_coroutine.* is a coroutine function"),
        (lambda: wait_for(socket.socket, 0), "socket is a class"),
        (lambda: readable(socket.socket), "socket.* has no file descriptor"),
        (lambda: readable(2**31), "2147483648 is beyond all file descriptors"),
        (lambda: path_exists(5), "path=5"),
        (lambda: recording(5).__enter__(), "path=5 is no path"),
        (lambda: virtual_clock(seed=[]), r"seed=\[\] is neither a whole number nor None"),
        (lambda: evict_port(80, stop_signal="x"), "stop_signal='x' is no signal"),
        (lambda: http_ok("http://localhost/", status=[]), r"status=\[\] names no status"),
        (lambda: path_exists(""), "path='' is empty"),
        (lambda: unix_socket_listening(5), "path=5"),
        (lambda: unix_socket_listening("x" * 200), "too long"),
        (lambda: unix_socket_listening("x\0y"), "contains a null character"),
        (lambda: unix_socket_listening(""), "path='' is empty"),
        (lambda: http_ok("http://localhost/", context=3), "context=3 is no ssl.SSLContext"),
        (lambda: process_exited(10**12), "pid=1000000000000 is not the id of a process"),
        (lambda: readable(Mock(spec_set=["fileno"])), "its fileno\\(\\) gives <Mock"),
        (lambda: readable(Mock(**{"fileno.return_value": None})), "its fileno\\(\\) gives None"),
        (lambda: readable(Mock(**{"fileno.return_value": True})), "its fileno\\(\\) gives True"),
        (lambda: process_exited("redis"), "'redis' is no process"),
        (lambda: process_exited(0), "pid=0"),
        (lambda: process_exited(-5), "pid=-5"),
        (lambda: process_exited(True), "pid=True"),
        (lambda: readable("x"), "'x' has no file descriptor"),
        (lambda: readable(-1), "-1"),
        (lambda: readable(True), "True"),
        (lambda: port_listening(0), "port=0"),
        (lambda: port_listening(65_536), "port=65536"),
        (lambda: port_listening("80"), "port='80'"),
        (lambda: port_listening(True), "port=True"),
        (lambda: port_listening(80, ""), "host=''"),
        (lambda: port_free(-1), "port=-1"),
        (lambda: port_free(80, 5), "host=5"),
        (lambda: port_free(80, reuse_address=1), "reuse_address=1"),
        (lambda: reserved_port(within=8000), "within=8000"),
        (lambda: reserved_port(within=(8000,)), r"within=\(8000,\)"),
        (lambda: reserved_port(within=(0, 8000)), "within=0 is not a port"),
        (lambda: reserved_port(within=(9000, 8000)), r"within=\(9000, 8000\) ends before it begins"),
        (lambda: reserved_port(protocol="sctp"), "protocol='sctp'"),
        (lambda: reserved_port(family="ipv5"), "family='ipv5'"),
        (lambda: reserved_ports(0), "count=0"),
        (lambda: reserved_ports(True), "count=True"),
        (lambda: reserved_ports(3, within=(8000, 8001)), "has fewer than 3 ports"),
        (lambda: reserved_socket_path(5), "name=5"),
        (lambda: reserved_socket_path("a/b"), "name='a/b'"),
        (lambda: reserved_socket_path(""), "name=''"),
        (lambda: reserved_socket_path("x" * 100), "too long for a unix socket"),
        (lambda: socket_activation("gunicorn"), "argv='gunicorn'"),
        (lambda: socket_activation(["true"]), "needs a socket"),
        (lambda: socket_activation(["true"], 3), "3 is no open socket"),
        (lambda: evict_port(0), "port=0"),
        (lambda: evict_port(1, stop_signal=0), "0"),
        (lambda: evict_port(1, force=1), "force=1"),
        (lambda: who_holds(0), "port=0"),
        (lambda: who_holds("80"), "port='80'"),
        (lambda: who_holds(80, "sctp"), "protocol='sctp'"),
        (lambda: http_ok("localhost:80"), "url='localhost:80'"),
        (lambda: http_ok("http://localhost/", status="ok"), "status='ok'"),
        (lambda: subscribe(), "on_end=, on_progress=, or both"),
        (lambda: subscribe(5), "on_end=5"),
        (lambda: subscribe(print, progress_growth=1), "progress_growth=1"),
        (lambda: set_defaults(probe_cap="10us"), "probe_cap='10us'"),
        (lambda: managed_process("redis-server --port 1"), "shlex.split"),
        (lambda: managed_process([]), r"\[\]"),
        (lambda: managed_process(["redis-server", 6379]), "6379"),
        (lambda: managed_process(["true"], "more"), "more"),
        (lambda: managed_process(["true"], ready="event"), 'ready="event" is for a Python callable'),
        (lambda: managed_process(["true"], ready="yes"), "ready='yes'"),
        (lambda: managed_process(["true"], ready=5), "ready=5 is not a condition"),
        (lambda: managed_process(print, env=["A"]), r"env=\['A'\]"),
        (lambda: managed_process(["true"], user="no-such-user"), "user='no-such-user' does not exist"),
        (lambda: managed_process(["true"], group=1.5), "group=1.5"),
        (lambda: managed_process(["true"], ulimits={"files": 1}), "'files', which is no limit"),
        (lambda: managed_process(["true"], ulimits={"nofile": "many"}), "'many' is no limit"),
        (lambda: managed_process("true"), "shell=True"),
        (lambda: managed_process(["true"], shell=True), "as one text"),
        (lambda: managed_process(["true"], tee=7), "tee=7"),
        (lambda: managed_process(["true"], restart="always"), "restart='always'"),
        (lambda: RestartPolicy(when="never"), "when='never'"),
        (lambda: RestartPolicy(limit="5/m"), "rate='5/m'"),
        (lambda: RestartPolicy(limit=5), "limit=5"),
        (lambda: RestartPolicy(backoff="1s"), "backoff='1s'"),
        (lambda: RestartPolicy(on_restart=5), "on_restart=5"),
        (lambda: started(), "at least one"),
        (lambda: started("true"), "'true' is no process"),
        (lambda: managed_process(["true"], ready=output_matches("(")), r"pattern='\(' is no regular expression"),
        (lambda: output_matches(b"x"), "pattern=b'x'"),
        (lambda: output_matches(""), "pattern=''"),
        (lambda: output_matches("x", stream="log"), "stream='log'"),
        (lambda: wait_for(output_matches("x"), 0), r"give it to managed_process\(..., ready=output_matches\('x'\)\)"),
        (lambda: wait_for(ready_notified(), 0), r"ready=ready_notified\(\)"),
        (lambda: notify_ready(5), "status=5 is no text"),
        (lambda: notify_status("one\ntwo"), "several lines"),
        (lambda: notify_stopping(errno=0), "errno=0"),
        (lambda: managed_process(print, start_method="thread"), "start_method='thread'"),
        (lambda: managed_process(["true"], cwd=5), "cwd=5 is not a path"),
        (lambda: managed_process(["true"], stop_signal="TERM"), "stop_signal='TERM' is no signal"),
        (lambda: managed_process(coroutine_function), "coroutine_function is a coroutine function: give a plain one"),
        (lambda: managed_process(["true"], stop_signal=0), "0"),
        (lambda: managed_process(["true"]).pid, "has not been started"),
        (lambda: RateLimiter("1/s").reserve(0), "tokens=0"),
        (lambda: RateLimiter("1/s").reserve(True), "tokens=True"),
        (lambda: RateLimiter("1/s").delay("2"), "tokens='2'"),
        (lambda: RateLimiter("1/s", store={}), r"store=\{\} is no waitkit.rates.store.Store"),
        (lambda: RateLimiter("1/s").change("1/s", "1/min"), "has 1 rates: give as many"),
    ],
)
def test_other_values(call, names):
    """Any other bad value is named in its error."""
    with pytest.raises((TypeError, ValueError, RuntimeError), match=names):
        call()


def test_reserved_port_twice():
    """A reservation in use is not entered again."""
    reservation = reserved_port()
    with reservation, pytest.raises(RuntimeError, match="in use already"):
        reservation.__enter__()


def test_async_forms_refuse_at_once():
    """The async forms refuse when they are called, or awaited: never later."""
    with pytest.raises(TypeError, match="None is not a condition"):
        consistently_async(None, 1).send(None)


def test_unknown_names():
    """A name that does not exist is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'wait_until'"):
        waitkit.wait_until
