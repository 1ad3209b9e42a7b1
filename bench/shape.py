"""A model's dimensions, and the work that follows from them."""

from dataclasses import dataclass
from pathlib import Path

from tokenizer import Tokenizer


@dataclass(frozen=True)
class Shape:
    """What decides the work of a token and of a prompt."""

    file_bytes: int
    layers: int
    embedding: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int

    @property
    def layer_weights(self):
        attention = 2 * self.embedding * self.head_dim
        attention *= self.heads + self.kv_heads
        return self.layers * (
            attention + 3 * self.embedding * self.feed_forward
        )

    def prefill_flops(self, tokens):
        attention = 2 * self.layers * self.heads * self.head_dim * tokens**2
        return 2 * self.layer_weights * tokens + attention


def shape_of(path):
    """The shape of the GGUF file at `path`."""
    tokenizer = Tokenizer(path)
    architecture = tokenizer.metadata("general.architecture")

    def number(key, default=None):
        return int(tokenizer.metadata(f"{architecture}.{key}", default))

    embedding = number("embedding_length")
    heads = number("attention.head_count")
    return Shape(
        file_bytes=Path(path).stat().st_size,
        layers=number("block_count"),
        embedding=embedding,
        feed_forward=number("feed_forward_length"),
        heads=heads,
        kv_heads=number("attention.head_count_kv", heads),
        head_dim=number("attention.key_length", embedding // heads),
    )
