"""Box formats and overlap; the only IoU in the package.

``xyxy`` is left, top, right, bottom; ``xywh`` left, top, width, height; ``cxcywh`` centre, width, height. Every
function takes and returns (n, 4), computes in float64 whatever came in, and never writes into its argument.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float64]


def _boxes(name: str, boxes: ArrayLike) -> Boxes:
    array = np.asarray(boxes, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{name} must be (n, 4), got {array.shape}")
    return array


def xyxy_to_xywh(xyxy: ArrayLike) -> Boxes:
    """Corners to left, top, width, height."""
    result = _boxes("xyxy", xyxy).copy()
    result[:, 2:] -= result[:, :2]
    return result


def xywh_to_xyxy(xywh: ArrayLike) -> Boxes:
    """Left, top, width, height to corners."""
    result = _boxes("xywh", xywh).copy()
    result[:, 2:] += result[:, :2]
    return result


def xyxy_to_cxcywh(xyxy: ArrayLike) -> Boxes:
    """Corners to centre, width, height."""
    result = _boxes("xyxy", xyxy).copy()
    result[:, 2:] -= result[:, :2]
    result[:, :2] += result[:, 2:] / 2
    return result


def cxcywh_to_xyxy(cxcywh: ArrayLike) -> Boxes:
    """Centre, width, height to corners."""
    result = _boxes("cxcywh", cxcywh).copy()
    result[:, :2] -= result[:, 2:] / 2
    result[:, 2:] += result[:, :2]
    return result


def iou_matrix(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of every pair.

    Args:
        first: (n, 4) xyxy.
        second: (m, 4) xyxy.

    Returns:
        (n, m), in [0, 1]. A box without area, inverted ones included, overlaps nothing, not even itself.

    Raises:
        ValueError: When an argument is not (n, 4).
    """
    a, b = _boxes("first", first), _boxes("second", second)
    ax1, ay1, ax2, ay2 = a.T[:, :, None]
    bx1, by1, bx2, by2 = b.T[:, None, :]
    # Three matrices, used over and over: fresh ones cost more than the arithmetic where people are many.
    scratch: NDArray[np.float64] = np.maximum(ax1, bx1)
    intersection: NDArray[np.float64] = np.minimum(ax2, bx2)
    intersection -= scratch
    np.maximum(intersection, 0.0, out=intersection)
    height: NDArray[np.float64] = np.minimum(ay2, by2)
    height -= np.maximum(ay1, by1, out=scratch)
    np.maximum(height, 0.0, out=height)
    intersection *= height
    union = np.add((ax2 - ax1) * (ay2 - ay1), (bx2 - bx1) * (by2 - by1), out=scratch)
    union -= intersection
    # An intersection above 0 needs two upright boxes, and then the union is above 0 too.
    np.divide(intersection, union, out=intersection, where=intersection > 0)
    return intersection
