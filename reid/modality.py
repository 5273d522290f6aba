"""The kind of light a camera sees."""

from enum import StrEnum


class Modality(StrEnum):
    """What a camera measures.

    The literature's "infrared" (HITSZ-VCM, BUPTCampus) is ``NIR``: reflected near-infrared light, 8-bit grey.
    ``THERMAL`` is emitted long-wave infrared, natively 14 or 16 bits. Figures for one say nothing about the other.
    """

    RGB = "rgb"
    NIR = "nir"
    THERMAL = "thermal"

    @property
    def is_visible(self) -> bool:
        """Whether this is the visible side of a visible-infrared pair."""
        return self is Modality.RGB
