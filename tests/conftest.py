"""Fixtures of all Python tests."""

import json
import random

import pytest

from support import cli


@pytest.fixture(scope="session")
def real_512():
    """512 token ids of real text, with logits and kept sets for them."""
    return json.loads((cli.GOLDEN / "real_512.json").read_text())


@pytest.fixture(scope="session")
def ids_512(real_512, tmp_path_factory):
    path = tmp_path_factory.mktemp("ids") / "ids_512.json"
    return cli.write_ids(path, real_512["ids"])


@pytest.fixture(scope="session")
def long_ids(tmp_path_factory):
    """A prompt of 8,000 tokens; which ones makes no difference to its cost."""
    pick = random.Random(0)
    ids = [pick.randrange(100, cli.VOCABULARY) for _ in range(8000)]
    return cli.write_ids(tmp_path_factory.mktemp("ids") / "long.json", ids)
