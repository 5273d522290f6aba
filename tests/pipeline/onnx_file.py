"""Writes the few bytes of an ONNX file (a protocol buffer) that answers every image with the same numbers."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_FLOAT = 1  # onnx.TensorProto.FLOAT


def write_constant_model(
    path: Path, answer: NDArray[np.float32], *, input_shape: tuple[int | str, ...], more_inputs: tuple[str, ...] = ()
) -> Path:
    """A model with the input ``images`` (and others like it) of ``input_shape`` and the constant output ``answer``."""
    tensor = b"".join(_number(1, size) for size in answer.shape) + _number(2, _FLOAT) + _bytes(9, answer.tobytes())
    value = _text(1, "value") + _bytes(5, tensor) + _number(20, 4)  # AttributeProto of type TENSOR
    node = _text(2, "answer") + _text(4, "Constant") + _bytes(5, value)
    graph = (
        _bytes(1, node)
        + _text(2, "constant")
        + b"".join(_bytes(11, _described(name, input_shape)) for name in ("images", *more_inputs))
        + _bytes(12, _described("answer", answer.shape))
    )
    opset = _text(1, "") + _number(2, 13)
    path.write_bytes(_number(1, 8) + _bytes(7, graph) + _bytes(8, opset))
    return path


def _described(name: str, shape: tuple[int | str, ...]) -> bytes:
    sizes = b"".join(_bytes(1, _number(1, size) if isinstance(size, int) else _text(2, size)) for size in shape)
    tensor_type = _number(1, _FLOAT) + _bytes(2, sizes)
    return _text(1, name) + _bytes(2, _bytes(1, tensor_type))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, content: str) -> bytes:
    return _bytes(field, content.encode())


def _varint(value: int) -> bytes:
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return struct.pack(f"{len(digits) + 1}B", *digits, value)
