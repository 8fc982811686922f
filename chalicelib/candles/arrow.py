"""Arrow record batches into arrays, by buffer: no Python object is made for a value.

arro3's own `Array.buffer()` panics on floats and timestamps, and `to_pylist` takes most of a
merge's time. So this reads the C structs that every Arrow library hands out, and looks at a
buffer only where type, length and null count are the expected ones.

Source: Apache Arrow, "The Arrow C data interface" and "The Arrow PyCapsule Interface".
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Mapping
from typing import Any

from chalicelib.core.errors import ObjectDamaged

#: Bytes of one value: of an int64, a double, and a timestamp.
_WIDTH = 8
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class _Schema(ctypes.Structure):
    """`ArrowSchema`, up to the last field that is needed."""


class _Array(ctypes.Structure):
    """`ArrowArray`, up to the last field that is needed."""


_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_void_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(_Schema))),
    ("dictionary", ctypes.c_void_p),
]
_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
]


def append(columns: Mapping[str, array[Any]], formats: Mapping[str, str], batch: Any) -> None:
    """Append a record batch's values to the columns of the same names.

    `formats`: the type of each column as the C data interface spells it, of 8 bytes a value.
    Raises ObjectDamaged where a column is missing, of another type, or not full.
    """
    # The memory that is read below is theirs: it lives as long as these two do.
    schema_capsule, array_capsule = batch.__arrow_c_array__()
    schema = _Schema.from_address(_pointer(schema_capsule, b"arrow_schema"))
    record = _Array.from_address(_pointer(array_capsule, b"arrow_array"))
    places = {schema.children[at].contents.name: at for at in range(schema.n_children)}
    for name, wanted in formats.items():
        at = places.get(name.encode())
        if at is None:
            raise ObjectDamaged(f"lacks the column {name}")
        found, values = schema.children[at].contents, record.children[at].contents
        if found.format != wanted.encode() or found.dictionary:
            raise ObjectDamaged(f"{name} is of type {found.format.decode()}, not {wanted}")
        if values.null_count or values.length < record.offset + record.length:
            raise ObjectDamaged(f"{name} lacks values")
        if record.length:
            start = values.buffers[1] + (record.offset + values.offset) * _WIDTH
            columns[name].frombytes(ctypes.string_at(start, record.length * _WIDTH))
