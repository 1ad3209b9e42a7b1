"""llama.cpp as the peer of the parity tests; a process of its own.

It is kept out of the test process so that its threads and its copy of the
weights end with the question that was asked:

    llama_reference.py MODEL tokenize < JSON list of texts > JSON list of ids
    llama_reference.py MODEL logits FIRST OUT < JSON list of ids
    llama_reference.py MODEL logits_f32 FIRST OUT < JSON list of ids
    llama_reference.py MODEL greedy COUNT PREFIX < JSON list of prompts' ids

`logits` writes the logits after each id from index FIRST on, `greedy` those
that each generated token was chosen from (a file PREFIXi for prompt i): rows
of f32. The context has llama.cpp's defaults: an f16 cache and flash
attention where it has it; with `logits_f32` the model's own context size, an
f32 cache and no flash attention.
"""

import ctypes
import json
import os
import sys

import llama_cpp
import numpy as np

BATCH = 512


def has_amx():
    with open("/proc/cpuinfo", encoding="ascii") as info:
        return "amx_int8" in info.read()


class Peer:
    """A model with one context."""

    def __init__(self, path, context_size, exact=False):
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        # Its kernels for AMX end with an illegal instruction where a virtual
        # machine shows AMX and grants no tiles.
        params.use_extra_bufts = not has_amx()
        self.model = llama_cpp.llama_model_load_from_file(
            path.encode(), params)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocab)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = context_size
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = os.cpu_count()
        if exact:
            params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
            params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.position = 0

    def reset(self):
        memory = llama_cpp.llama_get_memory(self.context)
        llama_cpp.llama_memory_clear(memory, True)
        self.position = 0

    def tokenize(self, text):
        data = text.encode()
        ids = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(
            self.vocab, data, len(data), ids, len(ids), True, True)
        return list(ids[:count])

    def decode(self, ids, wanted):
        """Reads up to BATCH ids; rows of logits where `wanted` is true."""
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i] = token
            batch.pos[i] = self.position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = wanted[i]
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        llama_cpp.llama_batch_free(batch)
        self.position += len(ids)
        rows = llama_cpp.llama_get_logits(self.context)
        count = sum(wanted)
        if count == 0:
            return np.empty((0, self.size), "<f4")
        pointer = ctypes.cast(rows, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, (count, self.size)).copy()


def logits(peer, ids, first, out):
    with open(out, "wb") as file:
        for begin in range(0, len(ids), BATCH):
            part = ids[begin:begin + BATCH]
            wanted = [begin + i >= first for i in range(len(part))]
            peer.decode(part, wanted).tofile(file)


def greedy(peer, ids, count, out):
    peer.reset()
    row = peer.decode(ids, [i + 1 == len(ids) for i in range(len(ids))])
    with open(out, "wb") as file:
        for _ in range(count):
            row.tofile(file)
            token = int(row.argmax())
            if llama_cpp.llama_vocab_is_eog(peer.vocab, token):
                break
            row = peer.decode([token], [True])


def main():
    model, job, *rest = sys.argv[1:]
    data = json.load(sys.stdin)
    if job == "tokenize":
        peer = Peer(model, 64)
        json.dump([peer.tokenize(text) for text in data], sys.stdout)
    elif job == "logits":
        logits(Peer(model, len(data) + 8), data, int(rest[0]), rest[1])
    elif job == "logits_f32":
        logits(Peer(model, 0, exact=True), data, int(rest[0]), rest[1])
    elif job == "greedy":
        peer = Peer(model, max(map(len, data)) + int(rest[0]) + 8)
        for i, ids in enumerate(data):
            greedy(peer, ids, int(rest[0]), f"{rest[1]}{i}")


if __name__ == "__main__":
    main()
