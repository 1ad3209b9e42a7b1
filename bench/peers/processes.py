"""Runs of pyramidkv and of its peers as whole processes.

Each returns a dict: ttft_ms, tpot_ms, prefill_tokens_per_s, tokens,
peak_rss_bytes and rss_before_load_bytes (VmHWM at the end, and of the same
process just before it loads the model), processor_s (of the whole process)
and noise (the share of all processors that other programs took meanwhile).
"""

import errno
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers.peak_rss import peak_rss_bytes

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / "build/release/bin/pyramidkv"
MODEL = ROOT / "models/default.gguf"
OPENVINO_PYTHON = ROOT / ".deps/peers/openvino/bin/python"
MODEL_CONTEXT = 8192  # beyond it the context has to be asked for
KERNELS_BENCH = BINARY.with_name("kernels_bench")


class PeerFailed(Exception):
    """A peer cannot do a row; the text says why."""


def refuse_what_is_not_built(with_bounds):
    """Leaves the program, before any work, with what to build."""
    needed = [BINARY, *([KERNELS_BENCH] if with_bounds else [])]
    missing = [path.name for path in needed if not path.exists()]
    if missing:
        hint = ", or leave out bounds with --only" if with_bounds else ""
        raise SystemExit(
            f"{' and '.join(missing)} not built: cmake --preset release && "
            f"cmake --build --preset release --target {' '.join(missing)}"
            f"{hint}"
        )


def _reason(log, code):
    """The last line that a peer wrote, or how it ended."""
    lines = [line for line in log.splitlines() if line.strip()]
    if code < 0 or not lines:
        return f"ended with {code}"
    return lines[-1].strip()


def _busy_seconds():
    """Processor time of the whole machine: not idle, not waiting for I/O."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _, _, irq, softirq, steal = map(int, fields)
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def _our_seconds():
    """Processor time of this process and of the children it waited for."""
    usages = map(
        resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Usage:
    """Of processors, since the object was made."""

    def __init__(self):
        self._start = time.monotonic(), _busy_seconds(), _our_seconds()

    def report(self):
        start, busy, ours = self._start
        available = (time.monotonic() - start) * os.cpu_count()
        seconds = _our_seconds() - ours
        others = _busy_seconds() - busy - seconds
        return {
            "processor_s": seconds,
            "noise": max(others / available, 0.0),
        }


def wait_until_quiet(limit, patience, interval=2.0):
    """Waits until others take at most `limit`, or for `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        usage = Usage()
        time.sleep(interval)
        if usage.report()["noise"] <= limit:
            return


def _open_when_read(path, process):
    """Opens a FIFO for writing once `process` has opened it for reading."""
    while process.poll() is None:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads it yet
                raise
            time.sleep(0.001)
        else:
            os.set_blocking(fd, True)
            return os.fdopen(fd, "w")
    raise SystemExit(f"pyramidkv ended early with {process.returncode}")


def _context(tokens):
    """The command's --ctx-size: 0 is the model's own."""
    return 0 if tokens <= MODEL_CONTEXT else -(-tokens // 1024) * 1024


def pyramidkv(ids, spec, predict, threads, model=MODEL, logits=None):
    """The prompt comes through a FIFO, which the command reads before it
    loads the model: while it waits there, its memory before loading is read.
    """
    with tempfile.TemporaryDirectory() as folder:
        fifo = Path(folder, "ids")
        os.mkfifo(fifo)
        command = [
            BINARY, "run", "--json", "--ignore-eos", "-m", model,
            "--kv", spec, "-n", str(predict), "-t", str(threads),
            "--temp", "0", "-c", str(_context(len(ids) + predict)),
            "--prompt-tokens", fifo,
        ]  # fmt: skip
        if logits:
            command += ["--logits", logits]
        usage = Usage()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True
        )
        with _open_when_read(fifo, process) as pipe:
            before = peak_rss_bytes(process.pid)
            json.dump(ids, pipe)
        output, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"pyramidkv run failed with {process.returncode}")
    document = json.loads(output)
    timings, kv = document["timings"], document["kv"]
    return {
        "ttft_ms": timings["ttft_ms"],
        "tpot_ms": timings["tpot_ms"],
        "prefill_tokens_per_s": 1000 * len(ids) / timings["ttft_ms"],
        "tokens": document["tokens"],
        "peak_rss_bytes": document["peak_rss_bytes"],
        "rss_before_load_bytes": before,
        "kv_bytes": kv["bytes"],
        "kv_bytes_full": kv["bytes_full"],
    } | usage.report()


def pyramidkv_together(tokens, spec, sequences, predict, threads, model=MODEL):
    """Several sequences in one batch, behind a prompt that the command makes.

    Its memory before the model is loaded is not known.
    """
    command = [
        BINARY, "bench", "--json", "-r", "1", "-m", model, "--kv", spec,
        "-p", str(tokens), "-n", str(predict), "-np", str(sequences),
        "-t", str(threads), "-c", str(_context(tokens + predict)),
    ]  # fmt: skip
    usage = Usage()
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise SystemExit(f"pyramidkv bench failed with {run.returncode}")
    (row,) = json.loads(run.stdout)["rows"]
    keys = (
        "ttft_ms", "tpot_ms", "prefill_tokens_per_s", "decode_tokens_per_s",
        "kv_bytes", "kv_bytes_full",
    )  # fmt: skip
    return {key: row[key] for key in keys} | usage.report()


def _peer(python, script, ids, *flags):
    """The JSON of a script that runs a peer once."""
    with tempfile.TemporaryDirectory() as folder:
        prompt = Path(folder, "ids")
        prompt.write_text(json.dumps(ids))
        command = [python, Path(__file__).with_name(script), prompt]
        usage = Usage()
        run = subprocess.run(
            [*command, *map(str, flags)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    if run.returncode != 0:
        raise PeerFailed(_reason(run.stderr, run.returncode))
    sys.stderr.write(run.stderr)
    return json.loads(run.stdout) | usage.report()


def llama_cpp(
    ids, predict, threads, model=MODEL, sequences=1, logits=None
):
    flags = ["-m", model, "-n", predict, "-t", threads, "-np", sequences]
    if logits:
        flags += ["--logits", logits]
    return _peer(sys.executable, "llama_cpp_row.py", ids, *flags)


def openvino(ids, backend, predict, threads, model=MODEL):
    if not OPENVINO_PYTHON.exists():
        raise PeerFailed("no OpenVINO here: run script/bootstrap --peers")
    flags = "-m", model, "-n", predict, "-t", threads, "--backend", backend
    return _peer(OPENVINO_PYTHON, "openvino_row.py", ids, *flags)


def bounds(threads):
    """What the machine does at most: {read_bytes_per_s, f32_flops_per_s,
    bf16_flops_per_s, u8s8_flops_per_s}, and noise as above.

    Without bf16 on a CPU that does not multiply it.
    """
    names = {
        f"MemoryRead/{threads}/real_time": ("read_bytes_per_s", "bytes/s"),
        **{
            f"GemmPeak/{kind}/{threads}/real_time": (
                f"{kind}_flops_per_s",
                "FLOP/s",
            )
            for kind in ("f32", "bf16", "u8s8")
        },
    }
    pattern = "|".join(f"^{name}$" for name in names)
    command = [
        KERNELS_BENCH, f"--benchmark_filter={pattern}",
        "--benchmark_format=json",
    ]  # fmt: skip
    usage = Usage()
    run = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    noise = usage.report()["noise"]
    if run.returncode != 0:
        raise SystemExit(f"kernels_bench failed with {run.returncode}")
    found = {b["name"]: b for b in json.loads(run.stdout)["benchmarks"]}
    if set(found) != set(names):
        raise SystemExit(f"kernels_bench knows no bounds of {threads} threads")
    speeds = {
        key: found[name][value]
        for name, (key, value) in names.items()
        if value in found[name]  # else it was skipped
    }
    return speeds | {"noise": noise}
