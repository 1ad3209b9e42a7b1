"""The folder that the commands of README.md find."""

import zipfile

FACTS = [
    "The island of Norvik has one lighthouse, built of grey stone.",
    "The lighthouse is kept by a man named Halvard, who came in spring.",
    "A ferry called Meridian goes to the mainland every Tuesday.",
    "The school has nineteen children and two teachers.",
    "The bakery opens at five in the morning, except on Sunday.",
]
FERRY = "The ferry Meridian is painted red and carries forty people.\n"


def write(folder):
    """Writes all files; returns {name: bytes} of the documents."""
    text = "\n".join(FACTS) + "\n"
    files = {
        "doc.txt": text.encode(),
        "ferry.txt": FERRY.encode(),
        "bom.txt": b"\xef\xbb\xbf" + text.encode(),
        "crlf.txt": text.replace("\n", "\r\n").encode(),
        "latin1.txt": "Über die Brücke führt eine Straße.\n".encode("latin-1"),
        "utf16.txt": text.encode("utf-16"),
        "empty.txt": b"",
        "paper.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
        "page.html": b"<!DOCTYPE html>\n<html><body>Hi</body></html>\n",
        "weights.safetensors": b"\x08" + bytes(7) + b'{"a":{}}',
        "pointer.gguf": b"version https://git-lfs.github.com/spec/v1\n"
                        b"oid sha256:00\nsize 98362432\n",
        "big.txt": (text * 150).encode(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "letter.docx", "w") as letter:
        letter.writestr("[Content_Types].xml", "<Types/>")
        letter.writestr("word/document.xml", "<w:document/>")
    files["letter.docx"] = (folder / "letter.docx").read_bytes()
    (folder / "folder").mkdir()
    return files
