"""The model's tokenizer, as llama.cpp runs it."""

import ctypes
import os
from pathlib import Path

import llama_cpp

MODEL = Path(__file__).resolve().parent.parent / "models/default.gguf"


class Tokenizer:
    """No weight is read."""

    def __init__(self, path=MODEL):
        # The reference keeps the callback alive as long as it may be called.
        self._silent = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self._silent, None)
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self._model = llama_cpp.llama_model_load_from_file(
            os.fsencode(path), params
        )
        if not self._model:
            raise SystemExit(f"{path}: not a model; run script/bootstrap")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)

    def encode(self, text):
        data = text.encode()
        ids = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(
            self._vocab, data, len(data), ids, len(ids), True, True
        )
        return list(ids[:count])

    def count(self, text):
        return len(self.encode(text))

    def metadata(self, key, default=None):
        """A value of the file's header, as text."""
        buffer = ctypes.create_string_buffer(256)
        length = llama_cpp.llama_model_meta_val_str(
            self._model, key.encode(), buffer, len(buffer)
        )
        return default if length < 0 else buffer.value.decode()
