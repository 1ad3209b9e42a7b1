"""Greedy completions by llama.cpp, as one line of JSON.

    bench/peers/llama_cpp_row.py -m MODEL -n 32 -t 2 IDS.json [-np SEQUENCES]
        [--logits FILE]

A process of its own for every run, so that its peak memory is the run's.
Set up as its users would for a long prompt on a CPU: flash attention, f16
cache of the length needed, batches of 2,048 in steps of 512. The low-level
interface is used, since the class of the Python package keeps all logits.
"""

import argparse
import ctypes
import json
import os
import time
from pathlib import Path

import llama_cpp
import numpy as np
from peak_rss import peak_rss_bytes

CONTEXT_STEP = 256  # llama.cpp rounds a context up to a multiple of it


def load(path, tokens, threads, sequences):
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    # Its kernels for AMX end with an illegal instruction where a virtual
    # machine shows AMX and grants no tiles; others are left as they are.
    with open("/proc/cpuinfo", encoding="ascii") as info:
        params.use_extra_bufts = "amx_int8" not in info.read()
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    params = llama_cpp.llama_context_default_params()
    # Each sequence has a cache of its own.
    params.n_ctx = sequences * (-(-tokens // CONTEXT_STEP) * CONTEXT_STEP)
    params.n_seq_max = sequences
    params.kv_unified = False
    params.n_batch = 2048
    params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
    params.type_k = params.type_v = llama_cpp.GGML_TYPE_F16
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise SystemExit(f"llama.cpp cannot load {path}")
    return model, context


class Decoder:
    def __init__(self, model, context):
        self._context = context
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(
            llama_cpp.llama_model_get_vocab(model)
        )
        self._batch = llama_cpp.llama_n_batch(context)

    def read(self, ids):
        """The logits behind the last id; a view until the next call."""
        for at in range(0, len(ids), self._batch):
            part = ids[at : at + self._batch]
            array = (llama_cpp.llama_token * len(part))(*part)
            batch = llama_cpp.llama_batch_get_one(array, len(part))
            if llama_cpp.llama_decode(self._context, batch) != 0:
                raise SystemExit("llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(logits, shape=(self._vocabulary,))

    def copy_prompt(self, sequences):
        """Gives the others the cache of the first; done with the next step."""
        memory = llama_cpp.llama_get_memory(self._context)
        for sequence in range(1, sequences):
            llama_cpp.llama_memory_seq_cp(memory, 0, sequence, -1, -1)

    def step(self, tokens, position):
        """Decodes a token of each sequence; the likeliest next ones."""
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = i
            batch.logits[i] = True
        failed = llama_cpp.llama_decode(self._context, batch)
        llama_cpp.llama_batch_free(batch)
        if failed:
            raise SystemExit("llama_decode failed")
        return [
            int(
                np.argmax(
                    np.ctypeslib.as_array(
                        llama_cpp.llama_get_logits_ith(self._context, i),
                        shape=(self._vocabulary,),
                    )
                )
            )
            for i in range(len(tokens))
        ]

    def warm_up(self, token):
        """Touches all weights, as llama.cpp's own programs do."""
        self.read([token])
        memory = llama_cpp.llama_get_memory(self._context)
        llama_cpp.llama_memory_clear(memory, True)


def generate(decoder, ids, predict, logits_file=None):
    """Greedy; the end of an answer does not stop it."""
    start = time.perf_counter()
    times, tokens = [], []
    logits = decoder.read(ids)
    while True:
        tokens.append(int(np.argmax(logits)))
        times.append(time.perf_counter())
        if logits_file:
            logits_file.write(logits.tobytes())
        if len(tokens) == predict:
            break
        logits = decoder.read(tokens[-1:])
    ttft = times[0] - start
    return {
        "ttft_ms": 1000 * ttft,
        "tpot_ms": 1000 * (times[-1] - times[0]) / max(predict - 1, 1),
        "prefill_tokens_per_s": len(ids) / ttft,
        "tokens": tokens,
    }


def generate_together(decoder, ids, predict, sequences):
    """Sequences with the same prompt, a token of each at every step."""
    start = time.perf_counter()
    tokens = [int(np.argmax(decoder.read(ids)))] * sequences
    ttft = time.perf_counter() - start
    decoder.copy_prompt(sequences)
    first = [tokens[0]]
    for step in range(predict - 1):
        tokens = decoder.step(tokens, len(ids) + step)
        first.append(tokens[0])
        if step == 0:  # which copied the caches: not timed
            start = time.perf_counter()
    tpot = (time.perf_counter() - start) / max(predict - 2, 1)
    return {
        "ttft_ms": 1000 * ttft,
        "tpot_ms": 1000 * tpot,
        "prefill_tokens_per_s": len(ids) / ttft,
        "decode_tokens_per_s": sequences / tpot,
        "tokens": first,
    }


def main():
    parser = argparse.ArgumentParser(description="One run of llama.cpp")
    parser.add_argument("ids", type=Path, help="JSON list of the prompt's ids")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-n", "--predict", type=int, default=32)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-np", "--parallel", type=int, default=1)
    parser.add_argument("--logits", type=Path)
    args = parser.parse_args()
    ids = json.loads(args.ids.read_text())
    # The reference keeps the callback alive as long as it may be called.
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p())
    llama_cpp.llama_backend_init()

    before = peak_rss_bytes()
    model, context = load(
        args.model, len(ids) + args.predict, args.threads, args.parallel
    )
    decoder = Decoder(model, context)
    decoder.warm_up(ids[0])
    if args.parallel > 1:
        result = generate_together(decoder, ids, args.predict, args.parallel)
    elif args.logits:
        with args.logits.open("wb") as file:
            result = generate(decoder, ids, args.predict, file)
    else:
        result = generate(decoder, ids, args.predict)
    result |= {
        "rss_before_load_bytes": before,
        "peak_rss_bytes": peak_rss_bytes(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
