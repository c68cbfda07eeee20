"""Where other threads are: two spots are one only where a thread has not gone on."""

from __future__ import annotations

import threading

from support import Running, until

from waitkit import Value
from waitkit.engine.frames import current_frames, spot_of


def test_a_frame_in_the_memory_of_another_is_another_spot():
    """A thread that goes on, and blocks at the same offset of other code, is somewhere else, though its frame has the old ``id``."""
    steps, step, spots = 50, Value(0), []
    # each a function of its own, of the same bytecode
    functions = [eval("lambda gate: gate.wait(20)") for _ in range(steps)]
    gates = [threading.Event() for _ in range(steps)]

    def runs():
        for number in range(steps):
            step.set(number)
            functions[number](gates[number])

    running = Running(runs)
    for number in range(steps):
        until(step.equals(number))
        until(lambda number=number: len(gates[number]._cond._waiters))
        frame = current_frames()[running.thread.ident]
        while frame.f_code is not functions[number].__code__:
            frame = frame.f_back
        spots.append(spot_of(frame))
        assert spot_of(frame) == spots[-1]
        del frame
        gates[number].set()
    running.result()
    assert len(set(spots)) == steps
