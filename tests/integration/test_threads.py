"""How many threads run, and where: what the affinity mask and OpenMP's
variables leave of the machine."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from support import cli

PROCESSORS = sorted(os.sched_getaffinity(0))


def environment(**variables):
    env = cli.environment(**variables)
    env.pop("OMP_NUM_THREADS", None)
    return env


def threads_of(processors, *options, **variables):
    """What `bench` says of a process that is bound to the processors."""
    done = subprocess.run(
        [cli.BINARY, "bench", "-p", "8", "-n", "2", "-r", "1", "--json",
         *options],
        env=environment(**variables), stdout=subprocess.PIPE, text=True,
        timeout=300, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, processors))
    return json.loads(done.stdout)["machine"]["threads"]


def masks_of(threads, **variables):
    """Masks of all threads of a chat that waits for its first line."""
    process = subprocess.Popen(
        [cli.BINARY, "chat"], env=environment(**variables),
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    try:
        folder = Path(f"/proc/{process.pid}/task")
        end = time.monotonic() + 60
        while len(list(folder.iterdir())) < threads:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.5)  # new threads bind themselves
        return [os.sched_getaffinity(int(task.name))
                for task in folder.iterdir()]
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def test_a_mask_of_one_processor_runs_one_thread():
    assert threads_of(PROCESSORS[:1]) == 1
    assert threads_of(PROCESSORS[:1], OMP_PROC_BIND="true") == 1
    assert threads_of(PROCESSORS[:1], "-t", "2") == 2


@pytest.mark.skipif(len(PROCESSORS) < 2, reason="needs two processors")
def test_bound_threads_have_processors_of_their_own():
    assert threads_of(PROCESSORS[:2], OMP_PROC_BIND="true") == 2
    threads = threads_of(PROCESSORS)
    for variables in ({"OMP_PROC_BIND": "true"},
                      {"GOMP_CPU_AFFINITY": " ".join(map(str, PROCESSORS))}):
        masks = masks_of(threads, **variables)
        assert len(masks) == threads
        assert all(len(mask) == 1 for mask in masks)
        assert len(set(map(frozenset, masks))) == threads


def test_threads_that_nobody_binds_keep_the_mask():
    threads = threads_of(PROCESSORS)
    assert masks_of(threads) == [set(PROCESSORS)] * threads
