"""Fixtures of all Python tests."""

import json

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
