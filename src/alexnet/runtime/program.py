"""Which program this is, to the byte."""

from hashlib import sha256
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]


def program() -> str:
    """A digest of our own source files: two processes that work together must run the same."""
    content = sha256()
    for file in sorted(HOUSE.rglob("*.py")):
        content.update(f"{file.relative_to(HOUSE)} {file.stat().st_size}\n".encode())
        content.update(file.read_bytes())
    return content.hexdigest()
