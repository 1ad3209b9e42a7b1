"""What bench/compare.py measures, and what this project promises of it.

Data and arithmetic alone: nothing here starts a program.
"""

import statistics
from dataclasses import dataclass

OURS, LLAMA_CPP, OPENVINO = "pyramidkv", "llama.cpp", "OpenVINO"
ANSWER_TOKENS = 256  # of the answer that `answer_ms` counts


@dataclass(frozen=True)
class Row:
    """A measurement: `cache` is a cache spec, or the peer's own name for it.

    Several sequences are decoded together behind prompts of `tokens` each.
    """

    system: str
    cache: str
    tokens: int
    sequences: int = 1

    @property
    def name(self):
        system = "" if self.system == OURS else f"{self.system} "
        return f"{system}{self.cache}, {self.lengths} tokens"

    @property
    def lengths(self):
        several = f"{self.sequences} x " if self.sequences > 1 else ""
        return f"{several}{self.tokens:,}"

    @property
    def has_bounds(self):
        """Is the work that of add_shares?"""
        return (
            self.system == OURS
            and self.sequences == 1
            and "prefill=streaming" not in self.cache
        )


def ours(cache, tokens, sequences=1):
    return Row(OURS, cache, tokens, sequences)


def llama_cpp(tokens, sequences=1):
    return Row(LLAMA_CPP, "f16", tokens, sequences)


def openvino(tokens, backends=("paged", "paged-256", "sdpa")):
    return tuple(Row(OPENVINO, backend, tokens) for backend in backends)


SHORT, MIDDLE, LONG, DEEP = 512, 2048, 8000, 32000
BATCH = 2000  # of each of many sequences
FULL = "full"
KEEP_5, KEEP_3 = "pyramidkv,keep=0.5", "pyramidkv,keep=0.3"
STREAM_5, STREAM_3, STREAM_2400 = (
    f"pyramidkv,{budget},prefill=streaming"
    for budget in ("keep=0.5", "keep=0.3", "tokens=2400")
)
BOUND_ROWS = tuple(ours(cache, LONG) for cache in (FULL, KEEP_5, KEEP_3))

# What --only picks from. A row may belong to several groups.
GROUPS = {
    "peers": (
        *(
            row
            for tokens in (SHORT, MIDDLE, LONG)
            for row in (
                ours(FULL, tokens),
                *openvino(tokens),
                llama_cpp(tokens),
            )
        ),
        ours(KEEP_3, LONG),
        *openvino(LONG, ("evict",)),
    ),
    "own": (
        *BOUND_ROWS,
        *(ours(cache, LONG) for cache in (STREAM_5, STREAM_3)),
    ),
    "deep": tuple(
        ours(cache, DEEP)
        for cache in (FULL, KEEP_5, KEEP_3, STREAM_3, STREAM_2400)
    ),
    "batch": (
        *(ours(cache, LONG, 4) for cache in (FULL, KEEP_5, KEEP_3)),
        ours(KEEP_3, BATCH),
        ours(KEEP_3, BATCH, 8),
        llama_cpp(BATCH, 8),
    ),
    "bounds": BOUND_ROWS,
}

# How to say a value. Those of AT_LEAST are good when they are high.
WORDS = {
    "ttft_ms": "TTFT",
    "tpot_ms": "TPOT",
    "answer_ms": f"TTFT + {ANSWER_TOKENS} x TPOT",
    "memory_bytes": "peak memory",
    "decode_tokens_per_s": "decoding, tokens/s of all sequences",
    "decode_share": "TPOT, share of its bound",
}
AT_LEAST = {"decode_tokens_per_s", "decode_share"}


@dataclass(frozen=True)
class Goal:
    """`key` of `row`, over the best of `against` (of 1 if there is none).

    At most `limit`; or at least where a high value is good.
    """

    key: str
    row: Row
    against: tuple
    limit: float


def _against(tokens, *limits):
    """(best of OpenVINO's, limit), (llama.cpp, limit)"""
    return zip((openvino(tokens), (llama_cpp(tokens),)), limits)


def _slower(row, limit):
    """The full cache's whole answer takes `limit` times as long."""
    return Goal("answer_ms", row, (ours(FULL, row.tokens),), 1 / limit)


GOALS = (
    *(
        Goal("ttft_ms", ours(FULL, tokens), against, limit)
        for tokens, limits in (
            (SHORT, (0.6,)),
            (MIDDLE, (0.85, 0.16)),
            (LONG, (0.85, 0.16)),
        )
        for against, limit in _against(tokens, *limits)
    ),
    *(
        Goal("tpot_ms", ours(FULL, tokens), against, limit)
        for tokens, limits in ((SHORT, (0.4, 0.55)), (LONG, (0.48, 0.35)))
        for against, limit in _against(tokens, *limits)
    ),
    *(
        Goal(key, ours(cache, tokens), (ours(FULL, tokens),), limit)
        for key, cache, tokens, limit in (
            ("tpot_ms", KEEP_5, LONG, 0.75),
            ("tpot_ms", KEEP_3, LONG, 0.58),
            ("tpot_ms", KEEP_5, DEEP, 0.65),
            ("tpot_ms", KEEP_3, DEEP, 0.45),
            ("ttft_ms", STREAM_5, LONG, 0.9),
            ("ttft_ms", STREAM_3, LONG, 0.8),
            ("ttft_ms", STREAM_3, DEEP, 0.65),
            ("ttft_ms", STREAM_2400, DEEP, 0.35),
        )
    ),
    _slower(ours(STREAM_5, LONG), 1.1),
    _slower(ours(STREAM_3, LONG), 1.2),
    Goal(
        "memory_bytes",
        ours(KEEP_3, LONG),
        (
            ours(FULL, LONG),
            *openvino(LONG),
            *openvino(LONG, ("evict",)),
            llama_cpp(LONG),
        ),
        1.0,
    ),
    Goal("memory_bytes", ours(KEEP_3, LONG), (llama_cpp(LONG),), 0.65),
    *(
        Goal("decode_tokens_per_s", row, (other,), limit)
        for row, other, limit in (
            (ours(KEEP_5, LONG, 4), ours(FULL, LONG, 4), 1.3),
            (ours(KEEP_3, LONG, 4), ours(FULL, LONG, 4), 1.6),
            (ours(KEEP_3, BATCH, 8), ours(KEEP_3, BATCH), 3.0),
            (ours(KEEP_3, BATCH, 8), llama_cpp(BATCH, 8), 2.0),
        )
    ),
    *(
        Goal("decode_share", row, (), limit)
        for row, limit in zip(BOUND_ROWS, (0.55, 0.45, 0.45))
    ),
)


def rows_of(groups, max_tokens=None):
    """The rows of these groups, each once, in order."""
    rows = dict.fromkeys(row for name in groups for row in GROUPS[name])
    return [
        row for row in rows if max_tokens is None or row.tokens <= max_tokens
    ]


def best_bounds(runs):
    """The highest speeds of all runs, and the noise of the quietest."""
    return {
        key: (min if key == "noise" else max)(run[key] for run in runs)
        for key in runs[0]
    }


TIMES = ("ttft_ms", "tpot_ms", "decode_tokens_per_s", "processor_s")


def summarise(runs):
    """Medians of a row's runs, with `_spread` the slowest less the fastest."""
    summary = {"runs": len(runs)}
    for key in TIMES:
        values = [run[key] for run in runs if key in run]
        if values:
            summary[key] = statistics.median(values)
            summary[f"{key}_spread"] = max(values) - min(values)
    summary["answer_ms"] = (
        summary["ttft_ms"] + ANSWER_TOKENS * summary["tpot_ms"]
    )
    if "rss_before_load_bytes" in runs[0]:
        summary["memory_bytes"] = max(
            run["peak_rss_bytes"] - run["rss_before_load_bytes"]
            for run in runs
        )
    summary["noise"] = max(run["noise"] for run in runs)
    for key in ("kv_bytes", "kv_bytes_full"):
        if key in runs[0]:
            summary[key] = runs[0][key]
    return summary


def kinds(bounds):
    """The arithmetic of matrix products that the machine was measured in."""
    suffix = "_flops_per_s"
    return [key.removesuffix(suffix) for key in bounds if key.endswith(suffix)]


def add_shares(row, summary, shape, bounds):
    """How near a row comes to what the machine allows (see Row.has_bounds).

    Decoding reads the file and the kept entries once for each token; a prompt
    is matrix products and causal attention.
    """
    read = shape.file_bytes + summary["kv_bytes"]
    least_ms = 1000 * read / bounds["read_bytes_per_s"]
    summary["decode_share"] = least_ms / summary["tpot_ms"]
    flops = shape.prefill_flops(row.tokens)
    for kind in kinds(bounds):
        least_ms = 1000 * flops / bounds[f"{kind}_flops_per_s"]
        summary[f"prefill_share_{kind}"] = least_ms / summary["ttft_ms"]


def verdicts(summaries):
    """One for each goal whose rows were all measured.

    summaries: {Row: dict}
    """
    results = []
    for goal in GOALS:
        needed = (goal.row, *goal.against)
        if any(goal.key not in summaries.get(row, {}) for row in needed):
            continue
        at_least = goal.key in AT_LEAST
        value = summaries[goal.row][goal.key]
        others = {row: summaries[row][goal.key] for row in goal.against}
        best = None
        if others:
            best = (max if at_least else min)(others, key=others.get)
        ratio = value / others[best] if others else value
        results.append(
            {
                "key": goal.key,
                "what": f"{WORDS[goal.key]}: {goal.row.name}",
                "against": best.name if best else None,
                "ratio": ratio,
                "goal": goal.limit,
                "at_least": at_least,
                "met": ratio >= goal.limit if at_least else ratio <= goal.limit,
            }
        )
    return results
