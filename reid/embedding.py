"""The precision of an embedding: half, rounded once and before anything else looks at it; and exact cosines.

Whoever compares embeddings compares the rounded ones, in float32, so that the answers before and after a restart are
the same bit by bit. A row of length 1 has length 1 within 5e-4 after rounding, which is within what a gallery takes.
"""

import zlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

_STORED = np.dtype("<f2")
# What each of the 65,536 half-precision numbers is in float32: looking it up is faster than NumPy's conversion.
_FLOAT32 = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)

_GRAINS = 2.0**26  # of which a number of an embedding is a whole multiple when cosines are taken


def cosines(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Of rows of unit length, (n, d) and (m, d): (n, m), the same bit by bit wherever the two rows stand.

    A matrix product adds in an order that depends on the place of a row, so equal rows get cosines that differ in their
    last bits. Here nothing depends on the order: of numbers that are multiples of 2^-26 all products and, by Cauchy and
    Schwarz, all their sums are multiples of 2^-52 below 2, which float64 holds exactly. The rounding moves a cosine by
    about 4e-9, a tenth of what float32 does; numbers of half precision are such multiples already.
    """
    left, right = (np.rint(np.asarray(each, np.float64) * _GRAINS) for each in (a, b))
    product = left @ right.T
    product /= _GRAINS**2
    return np.asarray(product)


def rounded(vectors: ArrayLike) -> NDArray[np.float32]:
    """The same in float32 with the precision of half; rounding twice changes nothing."""
    return np.asarray(vectors).astype(np.float16).astype(np.float32)


def to_bytes(vector: ArrayLike) -> bytes:
    """Half precision, little-endian."""
    return np.asarray(vector).astype(_STORED).tobytes()


def from_bytes(data: bytes, dimension: int) -> NDArray[np.float32]:
    """(dimension,) float32.

    Raises:
        ValueError: When it is not so many numbers.
    """
    codes = np.frombuffer(data, "<u2").reshape(dimension)
    return np.asarray(np.take(_FLOAT32, codes, mode="clip"))


def halves(data: bytes, dimension: int) -> NDArray[np.float16]:
    """Stored vectors one after the other, (n, dimension), as they are.

    Raises:
        ValueError: When it is not so many numbers a vector.
    """
    return np.frombuffer(data, _STORED).reshape(-1, dimension)


def checksum(data: bytes) -> int:
    """CRC-32 of a stored vector: damage on disk must not become a likeness."""
    return zlib.crc32(data)
