"""Kullback-Leibler divergence between two files of logits, block by block.

Two thousand rows of a 49,152 word vocabulary are 390 MB: they are mapped, not
read, and only a block at a time is turned into probabilities.
"""

from dataclasses import dataclass

import numpy as np

BLOCK = 64


@dataclass
class Divergence:
    positions: int
    kl: float          # mean over the positions, in nats
    kl_max: float
    top1_equal: float  # share of the positions with the same likeliest token


def open_logits(path, vocabulary):
    """[rows, vocabulary], mapped."""
    return np.memmap(path, "<f4", mode="r").reshape(-1, vocabulary)


def log_softmax(rows):
    rows = rows.astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return rows


def compare(p_logits, q_logits):
    """KL(p || q) of two [rows, vocabulary] arrays of the same rows."""
    assert p_logits.shape == q_logits.shape
    kl, equal = [], 0
    for begin in range(0, len(p_logits), BLOCK):
        p = p_logits[begin:begin + BLOCK]
        q = q_logits[begin:begin + BLOCK]
        equal += int((p.argmax(axis=1) == q.argmax(axis=1)).sum())
        log_p, log_q = log_softmax(p), log_softmax(q)
        kl.extend((np.exp(log_p) * (log_p - log_q)).sum(axis=1))
    return Divergence(len(kl), float(np.mean(kl)), float(np.max(kl)),
                      equal / len(kl))
