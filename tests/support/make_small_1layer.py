"""Writes tests/golden/small_1layer.bin from small_1layer.npz.

The C++ tests read that file: it holds the inputs of one attention layer, the
sets kept of it and some scores, in the form that tests/golden/README.md
describes.
"""

import struct

import numpy as np

from cli import GOLDEN

SETS = ["SnapKV_idx_layer0of30", "PyramidKV_idx_layer0of30",
        "PyramidKV_idx_layer10of30", "PyramidKV_idx_layer29of30",
        "Knorm_idx_layer0of30", "TOVA_idx_layer0of30",
        "ObservedAttention_idx_layer0of30", "StreamingLLM_idx_layer0of30"]
SCORES = ["SnapKV_score", "Knorm_score", "TOVA_score",
          "ObservedAttention_score"]
WINDOW, KERNEL = 32, 5


def main():
    arrays = np.load(GOLDEN / "small_1layer.npz")
    query_heads, tokens, head_dim = arrays["Q"].shape
    kv_heads = arrays["K"].shape[0]
    with open(GOLDEN / "small_1layer.bin", "wb") as file:
        file.write(struct.pack("<7i", query_heads, kv_heads, head_dim, tokens,
                               WINDOW, KERNEL, len(SETS)))
        for name in "QKV":
            file.write(arrays[name].astype("<f4").tobytes())
        for name in SETS:
            kept = arrays[name]
            file.write(struct.pack("<i", kept.shape[1]))
            file.write(kept.astype("<i4").tobytes())
        file.write(struct.pack("<i", len(SCORES)))
        for name in SCORES:
            file.write(arrays[name].astype("<f4").tobytes())


if __name__ == "__main__":
    main()
