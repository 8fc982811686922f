"""Compiled libraries of Linux without what only debuggers and linkers read."""

from __future__ import annotations

import struct

_MAGIC_64_LITTLE = b"\x7fELF\x02\x01"
#: Where the header says: program headers, section headers, size and number of the first, and
#: number of the others and which of them has their names. ELF-64 Object File Format, "ELF header".
_PROGRAM_HEADERS, _SECTIONS, _SIZE_AND_NUMBER, _SECTION_NUMBERS = 32, 40, 54, 60
#: Of a program header: where in the file its segment begins, and its bytes there.
_OFFSET, _BYTES_IN_FILE = 8, 32


def trimmed(content: bytes) -> bytes:
    """`content` up to the end of the last segment: nothing behind it is loaded.

    Symbols, debugging records and the sections' headers go, which are a tenth of all that ships.
    What is no 64-bit little-endian ELF file stays as it is.
    """
    if not content.startswith(_MAGIC_64_LITTLE):
        return content
    (first,) = struct.unpack_from("<Q", content, _PROGRAM_HEADERS)
    size, number = struct.unpack_from("<HH", content, _SIZE_AND_NUMBER)
    end = first + size * number
    for at in range(first, end, size):
        (offset,) = struct.unpack_from("<Q", content, at + _OFFSET)
        (length,) = struct.unpack_from("<Q", content, at + _BYTES_IN_FILE)
        end = max(end, offset + length)
    kept = bytearray(content[:end])
    struct.pack_into("<Q", kept, _SECTIONS, 0)
    struct.pack_into("<HH", kept, _SECTION_NUMBERS, 0, 0)
    return bytes(kept)
