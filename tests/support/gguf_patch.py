"""Damaged copies of the default model that cost two megabytes each.

A copy has the real header and, instead of the weights, a hole of the same
length: what is refused for its header never looks at them.
"""

import os
import struct

HEADER_BYTES = 4 << 20
UINT32, FLOAT32 = 4, 6  # GGUF's types of values


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


class HeaderCopy:
    """The model's header in memory; replace parts of it, then write it."""

    def __init__(self, model):
        self.size = os.path.getsize(model)
        with open(model, "rb") as file:
            self.data = file.read(HEADER_BYTES)

    def replace(self, old, new):
        assert len(old) == len(new)
        assert self.data.count(old) == 1, old
        self.data = self.data.replace(old, new)
        return self

    def write(self, path):
        with open(path, "wb") as file:
            file.write(self.data)
            file.truncate(self.size)
        return path


def unsupported_architecture(header):
    key = string("general.architecture") + struct.pack("<I", 8)
    return header.replace(key + string("llama"), key + string("lemma"))


def key_of_wrong_type(header):
    key = string("llama.block_count")
    return header.replace(key + struct.pack("<I", UINT32),
                          key + struct.pack("<I", FLOAT32))


def tensor_of_wrong_shape(header):
    name = string("blk.0.attn_k.weight") + struct.pack("<I", 2)
    return header.replace(name + struct.pack("<QQ", 576, 192),
                          name + struct.pack("<QQ", 192, 576))


def duplicate_tokens(header):
    return header.replace(string("!") + string('"') + string("#"),
                          string("!") + string("!") + string("#"))
