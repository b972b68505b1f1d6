"""Text that a terminal takes for text."""


def plain(text: str) -> str:
    """One line that a terminal takes for text: names of files and classes may hold newlines and escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
