"""``process_exited``: of what it can tell the end, and what it refuses."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys

import psutil
import pytest
from children import program
from support import LIMIT

from waitkit import managed_process, process_exited, wait_for


def test_the_end_of_a_managed_process():
    """It is what the process's own ``exited`` is: the exit code is known, and the words name it."""
    with managed_process(program("raise SystemExit(3)")) as process:
        ended = process_exited(process)
        assert ended.what == process.exited.what == f"{os.path.basename(sys.executable)} (pid {process.pid}) to exit"
        assert wait_for(ended, LIMIT) == (process.pid, 3)


def test_a_managed_process_that_has_not_been_started():
    """It has no end to wait for, which is said."""
    with pytest.raises(RuntimeError, match="has not been started"):
        process_exited(managed_process([sys.executable]))


def test_a_process_of_multiprocessing_may_be_started_later():
    """Its end can be waited for before it is started."""
    process = multiprocessing.get_context("spawn").Process(target=print)
    ended = process_exited(process)
    with pytest.raises(TimeoutError, match="not started"):
        wait_for(ended, 0)
    process.start()
    assert wait_for(ended, LIMIT) == (process.pid, 0)
    process.close()


def test_a_popen_of_psutil_knows_its_exit_code():
    """It is a Popen as well as a psutil.Process: as the first it knows more."""
    process = psutil.Popen(program("raise SystemExit(3)"))
    assert wait_for(process_exited(process), LIMIT) == (process.pid, 3)


@pytest.mark.parametrize("ends", [3, -9])
@pytest.mark.parametrize("given", [int, psutil.Process])
def test_a_child_is_not_reaped(given, ends):
    """Of a child that is given by its pid the exit code is known, and who has forked it can still wait for it."""
    pid = os.fork()
    if pid == 0:
        if ends < 0:
            os.kill(os.getpid(), -ends)
        os._exit(ends)
    assert wait_for(process_exited(given(pid)), LIMIT) == (pid, ends)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == ends
    assert wait_for(process_exited(pid), 0) == (pid, None)


def test_what_cannot_be_asked_is_refused():
    """What has a pid but cannot be asked by a thread, and what is no process at all, are a TypeError at once."""

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*program(""))
        with pytest.raises(TypeError, match="is no process: give a ManagedProcess, a Popen"):
            process_exited(process)
        await process.wait()

    asyncio.run(main())
    for bad in (None, "redis", subprocess.Popen, multiprocessing.Pipe()[0]):
        with pytest.raises(TypeError, match="is no process"):
            process_exited(bad)
