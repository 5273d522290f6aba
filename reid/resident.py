"""Rows of a gallery in the memory of a GPU, all of which a query is compared with in one pass.

FAISS filters a search before it takes the top k on the CPU only, so on a GPU it is PyTorch that computes the cosines:
in float32, from rows in half precision.
"""

from collections.abc import Sequence

import torch

from reid.blocks import DeviceError, Floats, Halves, Ids, Mask, NoRoomError

_LEFT_TO_MODELS = 0.25  # share of a GPU's memory that rows do not fill: models grow while they work


def place(rows: Halves, device: str) -> torch.Tensor:
    """Rows, (n, d), copied to a device.

    Raises:
        NoRoomError: When it would have less room left than models may need.
        DeviceError: When it is not there, or fails.
    """
    try:
        where = torch.device(device)
        if where.type == "cuda":
            free, whole = torch.cuda.mem_get_info(where)
            if free - rows.nbytes < _LEFT_TO_MODELS * whole:
                raise NoRoomError(f"{device}: {free >> 20} of {whole >> 20} MiB are free, a quarter is left to models")
        return torch.from_numpy(rows).to(where, copy=True)
    except torch.OutOfMemoryError as error:
        raise NoRoomError(f"{device}: {error}") from error
    except (RuntimeError, AssertionError) as error:  # PyTorch asserts that it was built for the device
        raise DeviceError(f"{device}: {error}") from error


def forget(rows: torch.Tensor, numbers: Ids) -> None:
    """Overwrite some of the rows.

    Raises:
        DeviceError: When the device fails.
    """
    try:
        rows.index_fill_(0, torch.from_numpy(numbers).to(rows.device), 0)
    except RuntimeError as error:
        raise DeviceError(str(error)) from error


class Resident:
    """The cosines of one query with all rows of some blocks."""

    def __init__(self, pieces: Sequence[torch.Tensor], query: Floats) -> None:
        """Compute them.

        Args:
            pieces: (n, d) each, float16, on one device.
            query: (1, d).

        Raises:
            DeviceError: When the device fails.
        """
        try:
            with torch.inference_mode():
                asked = torch.from_numpy(query[0].copy()).to(pieces[0].device)  # which may be read-only
                self._cosines = torch.cat([torch.mv(piece.float(), asked) for piece in pieces])
        except RuntimeError as error:
            raise DeviceError(str(error)) from error

    def best_of(self, _query: Floats, depth: int, allowed: Mask, available: int) -> tuple[Floats, Ids, float]:
        """Cosines and numbers of the best `depth` of those allowed, or all; and what no other's cosine is above.

        Raises:
            DeviceError: When the device fails.
        """
        try:
            with torch.inference_mode():
                within = torch.from_numpy(allowed).to(self._cosines.device)
                best = self._cosines.masked_fill(~within, -torch.inf).topk(min(depth, available))
                cosines, numbers = best.values.cpu().numpy(), best.indices.cpu().numpy()
        except RuntimeError as error:
            raise DeviceError(str(error)) from error
        return cosines, numbers, float(cosines[-1])
