"""Reads the constants of a TensorFlow GraphDef from the protobuf wire format, without TensorFlow.

https://protobuf.dev/programming-guides/encoding; the field numbers are those of TensorFlow's
graph.proto, node_def.proto, attr_value.proto, tensor.proto and tensor_shape.proto.
"""

import math
from collections.abc import Iterator

import numpy as np

NODE, NAME, OP, ATTRIBUTE = 1, 1, 2, 5  # of GraphDef; of NodeDef
KEY, VALUE, TENSOR = 1, 2, 8  # of an entry of a map; of AttrValue
DTYPE, SHAPE, CONTENT, FLOATS = 1, 2, 4, 5  # of TensorProto
DIMENSION, SIZE = 2, 1  # of TensorShapeProto; of its Dim
FLOAT32 = 1  # of the enum DataType
VARINT, BYTES = 0, 2  # wire types
FIXED = {1: 8, 5: 4}  # wire types of fixed size, in bytes
MANY = 1 << 24  # numbers that a shape may ask to fill in; the largest kernel has 2 million
BROKEN = "it is cut short, or not a protobuf"


def varint(buffer: memoryview, at: int) -> tuple[int, int]:
    """Reads a number, seven bits per byte, and where it ends. Raises IndexError at the buffer's end."""
    value = shift = 0
    while True:
        byte = buffer[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(buffer: int | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yields the number and value of every field. Raises ValueError for anything but a whole message."""
    if isinstance(buffer, int):
        raise ValueError(BROKEN)
    at = 0
    while at < len(buffer):
        try:
            key, at = varint(buffer, at)
            kind = key & 7
            if kind == VARINT:
                value, at = varint(buffer, at)
            else:
                length, at = varint(buffer, at) if kind == BYTES else (FIXED[kind], at)
                value, at = buffer[at : at + length], at + length
        except (IndexError, KeyError):
            raise ValueError(BROKEN) from None
        if at > len(buffer):
            raise ValueError(BROKEN)
        yield key >> 3, value


def message(buffer: int | memoryview) -> dict[int, list[int | memoryview]]:
    """Reads a message: all values of every field, by its number."""
    values: dict[int, list[int | memoryview]] = {}
    for number, value in fields(buffer):
        values.setdefault(number, []).append(value)
    return values


def raw(values: list[int | memoryview]) -> bytes:
    """Joins strings, or the packed and unpacked parts of an array."""
    parts = []
    for value in values:
        if isinstance(value, int):
            raise ValueError(BROKEN)
        parts.append(value)
    return b"".join(parts)


def size(dimension: int | memoryview) -> int:
    """Reads the size of one dimension of a shape."""
    value = message(dimension).get(SIZE, [0])[0]
    if not isinstance(value, int):
        raise ValueError(BROKEN)
    return value


def tensor(buffer: int | memoryview) -> np.ndarray | None:
    """Reads a TensorProto of float32, None for other types. Raises ValueError if numbers are missing."""
    proto = message(buffer)
    if proto.get(DTYPE) != [FLOAT32]:
        return None
    dimensions = message(proto[SHAPE][0]).get(DIMENSION, []) if SHAPE in proto else []
    shape = [size(dimension) for dimension in dimensions]
    values = np.frombuffer(raw(proto.get(CONTENT) or proto.get(FLOATS, [])), "<f4")
    missing = math.prod(shape) - len(values)
    if len(values) and 0 < missing < MANY:  # the format may omit repetitions of the last number
        values = np.concatenate([values, np.full(missing, values[-1])])
    if missing and len(values) != math.prod(shape):
        raise ValueError(f"a tensor of shape {shape} has {len(values)} numbers")
    return values.reshape(shape)


def constant(node: int | memoryview) -> tuple[str, np.ndarray | None]:
    """A node's name and, if it is a constant of float32, its value."""
    parts = message(node)
    name = raw(parts.get(NAME, [])).decode()
    if raw(parts.get(OP, [])) == b"Const":
        for entry in map(message, parts.get(ATTRIBUTE, [])):
            if raw(entry[KEY]) == b"value":
                return name, tensor(message(entry[VALUE][0])[TENSOR][0])
    return name, None


def constants(graph: bytes) -> dict[str, np.ndarray]:
    """The float32 constants by their nodes' names. Raises ValueError unless it is a whole GraphDef."""
    try:
        nodes = [constant(node) for number, node in fields(memoryview(graph)) if number == NODE]
    except (KeyError, TypeError):  # a required field is missing, or of another kind
        raise ValueError(BROKEN) from None
    return {name: value for name, value in nodes if value is not None}
