"""CRC-32 as zlib has it, by instructions made for it: a record of pixels is checked faster than it is copied."""

try:
    from isal.isal_zlib import crc32
except ImportError:  # the same numbers, a third as fast
    from zlib import crc32

__all__ = ["crc32"]
