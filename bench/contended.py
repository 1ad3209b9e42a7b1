"""A token's time beside other programs that want the processors.

    bench/contended.py [--bin FILE ...] [-p 2000] [-n 64] [-r 3] [-m MODEL]
                       [--json]

Each binary is timed alone, beside one busy process, beside one for each
processor, and on one processor (`taskset -c`) with and without `-t 1`. Every
run is a process of its own, and rounds alternate between all of them, so that
a machine that slows down does so for all. Prints the median of the TPOT in ms
and what it is times the quiet one. Ends with 3 where the first binary misses
a limit of LIMITS.

Busy processes count in a loop, at the usual priority, and end by themselves
after BUSY_SECONDS if this program dies.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUSY_SECONDS = 300
BUSY = f"""
import time
end = time.monotonic() + {BUSY_SECONDS}
while time.monotonic() < end:
    for _ in range(100000):
        pass
"""


@dataclass(frozen=True)
class Place:
    name: str
    busy: int = 0  # processes beside the one that is timed
    processor: int | None = None  # the only one it may use
    threads: int | None = None  # -t


ALL = sorted(os.sched_getaffinity(0))
QUIET = Place("quiet")
ONE_THREAD = Place("one processor, -t 1", processor=ALL[0], threads=1)
PLACES = [
    QUIET,
    Place("one busy process", busy=1),
    Place("one for each processor", busy=len(ALL)),
    ONE_THREAD,
    Place("one processor", processor=ALL[0]),
]
# The most that a TPOT may be, times that of another place.
LIMITS = {
    "one busy process": (1.8, QUIET),
    "one for each processor": (3.0, QUIET),
    "one processor": (1.05, ONE_THREAD),
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--bin", action="append", metavar="FILE",
        help="pyramidkv, several times to compare [build/release]",
    )  # fmt: skip
    parser.add_argument("-m", "--model", default=ROOT / "models/default.gguf")
    parser.add_argument("-p", "--prompt", type=int, default=2000)
    parser.add_argument("-n", "--predict", type=int, default=64)
    parser.add_argument("-r", "--repetitions", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.bin = args.bin or [ROOT / "build/release/bin/pyramidkv"]
    return args


def time_of_token(binary, place, args):
    """TPOT in ms of a process of its own."""
    command = ["taskset", "-c", str(place.processor)]
    command = command if place.processor is not None else []
    command += [str(binary), "bench", "-m", str(args.model), "--json"]
    command += ["-p", str(args.prompt), "-n", str(args.predict), "-r", "1"]
    if place.threads is not None:
        command += ["-t", str(place.threads)]
    environment = dict(os.environ)
    environment.pop("OMP_NUM_THREADS", None)
    busy = [
        subprocess.Popen([sys.executable, "-c", BUSY])
        for _ in range(place.busy)
    ]
    try:
        done = subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE
        )
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return json.loads(done.stdout)["rows"][0]["tpot_ms"]


def measure(args):
    """{binary: {place: median TPOT in ms}}"""
    times = {
        (binary, place): [] for binary in args.bin for place in PLACES
    }
    for _ in range(args.repetitions):
        for place in PLACES:
            for binary in args.bin:
                times[binary, place].append(time_of_token(binary, place, args))
    return {
        binary: {
            place: statistics.median(times[binary, place]) for place in PLACES
        }
        for binary in args.bin
    }


def print_table(medians):
    print("| binary | place | TPOT ms | x | limit |\n|---|---|---|---|---|")
    for binary, of_place in medians.items():
        for place, tpot in of_place.items():
            limit, base = LIMITS.get(place.name, (None, QUIET))
            times = tpot / of_place[base]
            print(
                f"| {binary} | {place.name} | {tpot:.2f} | {times:.2f} "
                f"| {'' if limit is None else limit} |"
            )


def missed(of_place):
    """Names of the places whose limit the TPOT is over."""
    return [
        place.name
        for place, tpot in of_place.items()
        if place.name in LIMITS
        and tpot > LIMITS[place.name][0] * of_place[LIMITS[place.name][1]]
    ]


def main():
    args = parse_arguments()
    medians = measure(args)
    if args.json:
        rows = {
            str(binary): {place.name: tpot for place, tpot in of_place.items()}
            for binary, of_place in medians.items()
        }
        print(json.dumps(rows, indent=1))
    else:
        print_table(medians)
    names = missed(medians[args.bin[0]])
    if names:
        print(f"over the limit: {', '.join(names)}", file=sys.stderr)
    return 3 if names else 0


if __name__ == "__main__":
    sys.exit(main())
