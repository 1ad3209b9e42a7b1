"""Do the peers answer as pyramidkv does?

Where greedy answers part, they should do so between two candidates that are
all but equal; behind that they are different texts. llama.cpp computes with
the same weights and a cache of the same type, and both programs show their
logits: an answer of another kind stops the measurement. OpenVINO converts the
weights, keeps a cache of 8 bits and shows no logits: where its answer differs
is stated, with the distance of the two candidates here.
"""

import tempfile
from pathlib import Path

import goals
import numpy as np
from peers import processes

TOKENS = 16
TIE = 0.3  # logits: candidates so close may come out in either order


class Reference:
    """The answer of the full cache, and its logits."""

    def __init__(self, ids, args):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "logits")
            run = processes.pyramidkv(
                ids, goals.FULL, TOKENS, args.threads, args.model, file
            )
            self._logits = np.fromfile(file, np.float32).reshape(TOKENS, -1)
        self.tokens = run["tokens"]

    def parting(self, tokens):
        """Where another answer parts from this one: (step, here, there,
        logits between the two here), or None.
        """
        for step, (here, there) in enumerate(zip(self.tokens, tokens)):
            if here != there:
                row = self._logits[step]
                return step, here, there, float(row[here] - row[there])
        return None


def refuse_other_answers(ids, reference, args):
    """Leaves the program if llama.cpp answers something else."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "logits")
        run = processes.llama_cpp(
            ids, TOKENS, args.threads, args.model, logits=file
        )
        logits = np.fromfile(file, np.float32).reshape(TOKENS, -1)
    parting = reference.parting(run["tokens"])
    if parting is None:
        return
    step, here, there, gap = parting
    gap = max(gap, float(logits[step, there] - logits[step, here]))
    if gap > TIE:
        raise SystemExit(
            f"not timed, the answers differ: token {step} is {here} here, "
            f"{there} in llama.cpp, {gap:.2f} logits apart"
        )


def statement(row, reference, tokens):
    """What --json and the report say about a timed answer of a peer."""
    parting = reference.parting(tokens)
    agreeing = min(TOKENS, len(tokens))
    result = {"row": row.name, "agreeing_tokens": agreeing, "gap": None}
    if parting is not None:
        result["agreeing_tokens"], _, _, result["gap"] = parting
    return result
