"""One greedy completion by OpenVINO GenAI, as one line of JSON.

    bench/peers/openvino_row.py -m MODEL -n 32 -t 2 --backend paged IDS.json

Runs in the environment that `script/bootstrap --peers` makes, a process of
its own for every run, so that its peak memory is the run's. The pipeline
reads the GGUF file itself. Times are those of its own performance metrics;
a clock around its streamer says the same within a millisecond.

Backends: `paged` is what the pipeline takes by itself, the prompt in one
piece; `paged-256` reads it in its scheduler's default steps, with less memory;
`evict` is that with cache eviction; `sdpa` has no pages. Everything else is its
default: bf16 arithmetic where the processor has it, a cache of 8 bits.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import openvino
import openvino_genai as genai
from peak_rss import peak_rss_bytes

BACKENDS = ("paged", "paged-256", "evict", "sdpa")
WARM_UP_TOKENS = 16
ONE_PIECE = 1 << 20
# As in the documentation's example; the size is that of `tokens=2400`.
EVICTION = {
    "start_size": 32,
    "recent_size": 128,
    "max_cache_size": 2400,
    "aggregation_mode": genai.AggregationMode.NORM_SUM,
}


def load(path, backend, threads):
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "ATTENTION_BACKEND": "SDPA" if backend == "sdpa" else "PA",
    }
    if backend != "sdpa":
        scheduler = genai.SchedulerConfig()
        if backend == "paged":
            scheduler.max_num_batched_tokens = ONE_PIECE
        # The pipeline's default would find the warm-up's prefix again.
        scheduler.enable_prefix_caching = False
        if backend == "evict":
            scheduler.use_cache_eviction = True
            scheduler.cache_eviction_config = genai.CacheEvictionConfig(
                **EVICTION
            )
        options["scheduler_config"] = scheduler
    return genai.LLMPipeline(path, "CPU", **options)


def generate(pipeline, ids, predict):
    """Greedy; the end of an answer does not stop it."""
    config = genai.GenerationConfig()
    config.max_new_tokens = predict
    config.ignore_eos = True
    config.do_sample = False
    row = np.array([ids], np.int64)
    inputs = genai.TokenizedInputs(
        openvino.Tensor(row), openvino.Tensor(np.ones_like(row))
    )
    return pipeline.generate(inputs, config)


def main():
    parser = argparse.ArgumentParser(description="One run of OpenVINO GenAI")
    parser.add_argument("ids", type=Path, help="JSON list of the prompt's ids")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-n", "--predict", type=int, default=32)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--backend", choices=BACKENDS, default="paged")
    args = parser.parse_args()
    ids = json.loads(args.ids.read_text())

    before = peak_rss_bytes()
    pipeline = load(args.model, args.backend, args.threads)
    generate(pipeline, ids[:WARM_UP_TOKENS], 2)
    result = generate(pipeline, ids, args.predict)
    ttft = result.perf_metrics.get_ttft().mean
    times = result.perf_metrics.raw_metrics.m_new_token_times  # ms
    print(
        json.dumps(
            {
                "ttft_ms": ttft,
                "tpot_ms": (times[-1] - times[0]) / max(len(times) - 1, 1),
                "prefill_tokens_per_s": 1000 * len(ids) / ttft,
                "tokens": result.tokens[0],
                "rss_before_load_bytes": before,
                "peak_rss_bytes": peak_rss_bytes(),
            }
        )
    )


if __name__ == "__main__":
    main()
