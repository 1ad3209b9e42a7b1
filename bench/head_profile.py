"""A profile of the KV heads that retrieve, for duo-attention.

    bench/head_profile.py [--tokens 2000] [--texts 4] [--model FILE] > heads.json

Reads generated texts with a cache that splits one budget over all layers and
heads by what repeating the text needs (kvzip, keep 0.2), and gives each head
the share of it that it won. A head that keeps much is one that copies from far
away (DuoAttention, arXiv 2410.10819, trains such gates; these are measured).
"""

import argparse
import json
from pathlib import Path

import prompts
from command import json_of
from tokenizer import MODEL, Tokenizer


def kept(model, text):
    """[layers][kv_heads] entries; rings of a sliding window are left out."""
    spec = "kvzip,keep=0.2,from=0"
    run = json_of("run", "--no-chat", "-m", model, "-p", text, "-n", 0,
                  "--kv", spec)  # fmt: skip
    layers = run["kv"]["layers"]
    return [layer["kept"] for layer in layers if layer["budget"] is not None]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--model", default=MODEL)
    args = parser.parse_args()

    tokenizer = Tokenizer(args.model)
    texts = [
        prompts.passkey(5000 + i, tokenizer.count, args.tokens).text
        for i in range(args.texts)
    ]
    runs = [kept(args.model, text) for text in texts]
    total = [
        [sum(heads) for heads in zip(*layers)] for layers in zip(*runs)
    ]
    most = max(max(row) for row in total)
    gates = [[round(x / most, 4) for x in row] for row in total]
    print(
        json.dumps({"version": 1, "model": Path(args.model).name, "heads": gates})
    )


if __name__ == "__main__":
    main()
