"""One machine, two drivers: on the same script a poller of a function and one of a coroutine function take the same course."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from waitkit import Backoff, Poller, PollRecord, after, polling, virtual_clock, wait_for, wait_for_async
from waitkit.engine.clock import now

MS = 1_000_000


class Broken(Exception):
    """What a run of the script raises."""


class Fatal(Broken):
    """What ends the poller."""


class Step(NamedTuple):
    """One run: how long it takes, and what it raises in the end."""

    milliseconds: int
    error: type[Broken] | None


class Script(NamedTuple):
    """What the function does, run by run (the last one again and again), and what is done to its poller meanwhile."""

    steps: list[Step]
    #: the pauses between calls of trigger(), in tens of milliseconds
    triggers: list[int]
    #: then it is stopped, so many tens of milliseconds later
    stop: int
    options: dict[str, object]


# All lasts whole tens of milliseconds, and the triggers come 1, 2, 3 ... ms beside them: nothing falls on the same instant, where
# the order is anybody's.
TENS = st.integers(0, 12).map(lambda number: 10 * number)
STEPS = st.builds(Step, TENS, st.sampled_from([None, None, None, Broken, Broken, Fatal]))
TIMINGS = st.sampled_from([{}, *({"timing": "fixed_rate", "missed": missed} for missed in ("skip", "delay", "burst"))])
OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "first_delay": TENS.map(lambda number: number / 1000),
        "error_interval": st.sampled_from(["10ms", "70ms", Backoff(base="20ms", max_delay="90ms", jitter="none")]),
        "max_runs": st.integers(1, 6),
        "stop_on": st.just(Fatal),
        "hang_after": st.sampled_from(["35ms", "75ms"]),
    },
)
OPTIONS = st.builds(lambda timing, others: {**timing, **others}, TIMINGS, OTHERS)
SCRIPTS = st.builds(
    Script,
    st.lists(STEPS, min_size=1, max_size=8),
    st.lists(st.integers(0, 10), max_size=8),
    st.integers(0, 60),
    OPTIONS,
)


class Course:
    """What happens, and when, in milliseconds since the start."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._began = now()
        self._runs = 0
        self.events: list[tuple[object, ...]] = []

    def note(self, *event: object) -> None:
        self.events.append(((now() - self._began) / MS, *event))

    def next_step(self) -> Step:
        step = self._script.steps[min(self._runs, len(self._script.steps) - 1)]
        self._runs += 1
        self.note("begins", self._runs)
        return step

    def ended(self, step: Step) -> None:
        self.note("ends", self._runs)
        if step.error is not None:
            raise step.error(self._runs)

    def told(self, what: str) -> object:
        def hook(record: PollRecord) -> None:
            self.note(what, record.run, str(record.error), record.failures, record.next_in, round(record.duration, 9))

        return hook

    def options(self) -> dict[str, object]:
        hooks = {"on_error": self.told("on_error")}
        if "hang_after" in self._script.options:
            hooks["on_hang"] = self.told("on_hang")
        return {"interval": "30ms", **self._script.options, **hooks}

    def pauses(self) -> list[float]:
        """In seconds: before each trigger, and before the stop."""
        script = self._script
        pauses = [tens / 100 + 0.001 for tens in script.triggers]
        return [*pauses, script.stop / 100 + 0.0095 - len(pauses) * 0.001]

    def pull(self, poller: Poller) -> None:
        if poller.state != "stopped":
            self.note("triggered")
            poller.trigger()

    def finished(self, poller: Poller) -> list[tuple[object, ...]]:
        status = poller.status()
        self.note(
            status.state,
            status.runs,
            status.failures,
            status.failed_runs,
            str(status.last_error),
            type(poller.error),
            status.last_duration,
        )
        return self.events


def in_workers(script: Script) -> list[tuple[object, ...]]:
    """The course of a plain function, which the workers run."""
    with virtual_clock():
        course = Course(script)

        def job() -> None:
            step = course.next_step()
            wait_for(after(step.milliseconds / 1000), None)
            course.ended(step)

        poller = polling(job, **course.options()).start()
        *pauses, last = course.pauses()
        for pause in pauses:
            wait_for(after(pause), None)
            course.pull(poller)
        wait_for(after(last), None)
        course.note("stop")
        poller.stop()
        return course.finished(poller)


def in_a_loop(script: Script) -> list[tuple[object, ...]]:
    """The course of a coroutine function, which an event loop runs."""

    async def main() -> list[tuple[object, ...]]:
        course = Course(script)

        async def job() -> None:
            step = course.next_step()
            await wait_for_async(after(step.milliseconds / 1000), None)
            course.ended(step)

        poller = polling(job, **course.options()).start()
        *pauses, last = course.pauses()
        for pause in pauses:
            await wait_for_async(after(pause), None)
            course.pull(poller)
        await wait_for_async(after(last), None)
        course.note("stop")
        await poller.stop_async()
        return course.finished(poller)

    with virtual_clock():
        return asyncio.run(main())


@given(SCRIPTS)
def test_both_drivers_take_the_same_course(script: Script) -> None:
    """Runs, errors, hangs, triggers and the stop come at the same instants in threads and in a loop, and tell the same."""
    assert in_workers(script) == in_a_loop(script)
