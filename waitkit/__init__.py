"""waitkit: wait for conditions instead of guessing with ``time.sleep``.

Importing this package imports nothing else of it: each public name is loaded when it is first used (PEP 562), so
that ``from waitkit import wait_for`` costs neither asyncio nor psutil nor wrapt.
"""

import typing as _typing

__version__ = "0.1.0"

if _typing.TYPE_CHECKING:
    from waitkit.conditions.condition import AnyHeld as AnyHeld
    from waitkit.conditions.condition import Condition as Condition
    from waitkit.conditions.condition import all_of as all_of
    from waitkit.conditions.condition import any_of as any_of
    from waitkit.conditions.descriptors import readable as readable
    from waitkit.conditions.notifying import notified as notified
    from waitkit.conditions.own import Event as Event
    from waitkit.conditions.own import Value as Value
    from waitkit.conditions.paths import path_exists as path_exists
    from waitkit.conditions.processes import ProcessExit as ProcessExit
    from waitkit.conditions.processes import process_exited as process_exited
    from waitkit.conditions.timing import after as after
    from waitkit.decorators.waits_for import waits_for as waits_for
    from waitkit.ground.durations import Duration as Duration
    from waitkit.ground.errors import Cancelled as Cancelled
    from waitkit.ground.errors import StoppedHolding as StoppedHolding
    from waitkit.ground.errors import WaitFacts as WaitFacts
    from waitkit.ground.errors import WaitFailed as WaitFailed
    from waitkit.ground.errors import WaitkitError as WaitkitError
    from waitkit.ground.errors import WaitTimeout as WaitTimeout
    from waitkit.ground.records import Try as Try
    from waitkit.ground.records import WaitRecord as WaitRecord
    from waitkit.ground.records import log_long_waits as log_long_waits
    from waitkit.ground.records import subscribe as subscribe
    from waitkit.ground.settings import defaults as defaults
    from waitkit.ground.settings import set_defaults as set_defaults
    from waitkit.policies.backoff import Backoff as Backoff
    from waitkit.policies.gcra import Rate as Rate
    from waitkit.polls.api import polling as polling
    from waitkit.polls.api import polls_every as polls_every
    from waitkit.polls.decorated import PolledFunction as PolledFunction
    from waitkit.polls.ending import stop_pollers_on as stop_pollers_on
    from waitkit.polls.poller import Poller as Poller
    from waitkit.polls.records import PollerStatus as PollerStatus
    from waitkit.polls.records import PollRecord as PollRecord
    from waitkit.ports.evict import evict_port as evict_port
    from waitkit.ports.free import port_free as port_free
    from waitkit.ports.handover import Activation as Activation
    from waitkit.ports.handover import socket_activation as socket_activation
    from waitkit.ports.holders import Holder as Holder
    from waitkit.ports.holders import who_holds as who_holds
    from waitkit.ports.http import http_ok as http_ok
    from waitkit.ports.listening import port_listening as port_listening
    from waitkit.ports.listening import unix_socket_listening as unix_socket_listening
    from waitkit.ports.reserve import reserved_port as reserved_port
    from waitkit.ports.reserve import reserved_ports as reserved_ports
    from waitkit.ports.socket_path import reserved_socket_path as reserved_socket_path
    from waitkit.processes.api import managed_process as managed_process
    from waitkit.processes.managed import ManagedProcess as ManagedProcess
    from waitkit.processes.matching import output_matches as output_matches
    from waitkit.processes.notifications import ready_notified as ready_notified
    from waitkit.processes.notify import notify_ready as notify_ready
    from waitkit.processes.notify import notify_status as notify_status
    from waitkit.processes.notify import notify_stopping as notify_stopping
    from waitkit.processes.output import Output as Output
    from waitkit.processes.ready_event import ReadyEvent as ReadyEvent
    from waitkit.processes.restarting import RestartPolicy as RestartPolicy
    from waitkit.processes.statistics import Statistics as Statistics
    from waitkit.processes.together import started as started
    from waitkit.rates.api import rate_limited as rate_limited
    from waitkit.rates.exceeded import RateLimitExceeded as RateLimitExceeded
    from waitkit.rates.keyed import KeyedLimiters as KeyedLimiters
    from waitkit.rates.limiter import RateLimiter as RateLimiter
    from waitkit.rates.reservation import Reservation as Reservation
    from waitkit.report.recording import recording as recording
    from waitkit.retry.api import Retrying as Retrying
    from waitkit.retry.api import retry_backoff as retry_backoff
    from waitkit.retry.api import retrying as retrying
    from waitkit.retry.budget import RetryBudget as RetryBudget
    from waitkit.retry.records import Attempt as Attempt
    from waitkit.retry.records import RetryRecord as RetryRecord
    from waitkit.retry.records import current_attempt as current_attempt
    from waitkit.virtual.block import virtual_clock as virtual_clock
    from waitkit.virtual.clock import VirtualClockError as VirtualClockError
    from waitkit.virtual.clock import VirtualDeadlock as VirtualDeadlock
    from waitkit.waiting import consistently as consistently
    from waitkit.waiting import consistently_async as consistently_async
    from waitkit.waiting import wait_for as wait_for
    from waitkit.waiting import wait_for_async as wait_for_async
    from waitkit.waits.scopes import CancelScope as CancelScope
    from waitkit.waits.scopes import fail_after as fail_after
    from waitkit.waits.scopes import move_on_after as move_on_after

# Where each public name lives. A test holds this table, the imports above and the reference against each other.
_HOMES = {
    "Activation": "ports.handover",
    "AnyHeld": "conditions.condition",
    "Attempt": "retry.records",
    "Backoff": "policies.backoff",
    "CancelScope": "waits.scopes",
    "Cancelled": "ground.errors",
    "Condition": "conditions.condition",
    "Duration": "ground.durations",
    "Event": "conditions.own",
    "Holder": "ports.holders",
    "KeyedLimiters": "rates.keyed",
    "ManagedProcess": "processes.managed",
    "Output": "processes.output",
    "PollRecord": "polls.records",
    "PolledFunction": "polls.decorated",
    "Poller": "polls.poller",
    "PollerStatus": "polls.records",
    "ProcessExit": "conditions.processes",
    "Rate": "policies.gcra",
    "RateLimitExceeded": "rates.exceeded",
    "RateLimiter": "rates.limiter",
    "ReadyEvent": "processes.ready_event",
    "Reservation": "rates.reservation",
    "RestartPolicy": "processes.restarting",
    "RetryBudget": "retry.budget",
    "RetryRecord": "retry.records",
    "Retrying": "retry.api",
    "Statistics": "processes.statistics",
    "StoppedHolding": "ground.errors",
    "Try": "ground.records",
    "Value": "conditions.own",
    "VirtualClockError": "virtual.clock",
    "VirtualDeadlock": "virtual.clock",
    "WaitFacts": "ground.errors",
    "WaitFailed": "ground.errors",
    "WaitRecord": "ground.records",
    "WaitTimeout": "ground.errors",
    "WaitkitError": "ground.errors",
    "after": "conditions.timing",
    "all_of": "conditions.condition",
    "any_of": "conditions.condition",
    "consistently": "waiting",
    "consistently_async": "waiting",
    "current_attempt": "retry.records",
    "defaults": "ground.settings",
    "evict_port": "ports.evict",
    "fail_after": "waits.scopes",
    "http_ok": "ports.http",
    "log_long_waits": "ground.records",
    "managed_process": "processes.api",
    "move_on_after": "waits.scopes",
    "notified": "conditions.notifying",
    "notify_ready": "processes.notify",
    "notify_status": "processes.notify",
    "notify_stopping": "processes.notify",
    "output_matches": "processes.matching",
    "path_exists": "conditions.paths",
    "polling": "polls.api",
    "polls_every": "polls.api",
    "port_free": "ports.free",
    "port_listening": "ports.listening",
    "process_exited": "conditions.processes",
    "rate_limited": "rates.api",
    "readable": "conditions.descriptors",
    "ready_notified": "processes.notifications",
    "recording": "report.recording",
    "reserved_port": "ports.reserve",
    "reserved_ports": "ports.reserve",
    "reserved_socket_path": "ports.socket_path",
    "retry_backoff": "retry.api",
    "retrying": "retry.api",
    "set_defaults": "ground.settings",
    "socket_activation": "ports.handover",
    "started": "processes.together",
    "stop_pollers_on": "polls.ending",
    "subscribe": "ground.records",
    "unix_socket_listening": "ports.listening",
    "virtual_clock": "virtual.block",
    "wait_for": "waiting",
    "wait_for_async": "waiting",
    "waits_for": "decorators.waits_for",
    "who_holds": "ports.holders",
}

if not _typing.TYPE_CHECKING:  # to type checkers, which cannot evaluate this, all names above are public
    __all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'waitkit' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"waitkit.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
