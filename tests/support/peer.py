"""Calls of llama_reference.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

from support import cli

SCRIPT = Path(__file__).with_name("llama_reference.py")


def ask(data, job, *args, model=cli.MODEL):
    """Runs a job of llama_reference.py; its answer, if it gives one."""
    # Idle OpenMP threads that spin would slow down whatever runs beside them.
    env = os.environ | {"OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(model), job, *map(str, args)],
        input=json.dumps(data), capture_output=True, text=True, timeout=300,
        env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout) if done.stdout else None
