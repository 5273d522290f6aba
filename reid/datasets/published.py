"""Counts of the real data sets, as their authors and the loaders in circulation give them.

HITSZ-VCM: totals from the data set's page and Lin et al. (CVPR 2022), parts and counts after the filter of 12 frames
from the comments of M3-ReID's loader. BUPTCampus: Du et al. (TIFS 2024) and the lists of its release. Totals and parts
of HITSZ-VCM agree with each other.
"""

from collections.abc import Mapping
from types import MappingProxyType

HITSZ_VCM: Mapping[str, int] = MappingProxyType(
    {
        "identities": 927,
        "tracklets": 21_863,
        "rgb tracklets": 11_785,
        "nir tracklets": 10_078,
        "frames": 463_259,
        "rgb frames": 251_452,
        "nir frames": 211_807,
        "rgb cameras": 12,
        "nir cameras": 12,
        "train identities": 500,
        "train tracklets": 11_061,
        "train names": 232_496,
        "train rgb tracklets of 12 frames or more": 5_460,
        "train rgb frames of these": 126_543,
        "train nir tracklets of 12 frames or more": 4_291,
        "train nir frames of these": 98_214,
        "test identities": 427,
        "test tracklets": 10_802,
        "test names": 230_763,
        "test rgb tracklets of 12 frames or more": 5_099,
        "test rgb frames of these": 118_137,
        "test nir tracklets of 12 frames or more": 4_584,
        "test nir frames of these": 105_979,
        "queries tracklets": 5_159,
    }
)

BUPT_CAMPUS: Mapping[str, int] = MappingProxyType(
    {
        "identities": 3_080,
        "cameras": 6,
        "train identities": 1_074,
        "train rgb tracklets": 3_574,
        "train nir tracklets": 3_574,
        "train frames": 796_138,
        "auxiliary identities": 930,
        "auxiliary rgb tracklets": 930,
        "auxiliary nir tracklets": 930,
        "auxiliary frames": 209_150,
        "query identities": 1_076,
        "query rgb tracklets": 540,
        "query nir tracklets": 536,
        "query rgb frames": 48_521,
        "query nir frames": 53_417,
        "gallery identities": 1_076,
        "gallery rgb tracklets": 2_422,
        "gallery nir tracklets": 2_422,
        "gallery rgb frames": 298_771,
        "gallery nir frames": 298_771,
    }
)
