"""All metrics of a sequence or a set at once, and their row of a table."""

from dataclasses import dataclass, fields
from typing import Self

from trackers.metrics import clear, hota, identity, purity
from trackers.metrics.sequence import ScoredSequence

COUNTS = ("IDSW", "Frag", "FP", "FN", "IDt")
COLUMNS = (
    *("HOTA", "DetA", "AssA", "AssPr", "AssRe", "MOTA", "IDF1", "IDSW", "Frag", "FP", "FN"),
    *("Pur", "MixTrk", "IDt", "Trk/Id", "FPbox"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The four families of metrics over one or more sequences; add them to combine sequences."""

    hota: hota.Hota
    clear: clear.Clear
    identity: identity.Identity
    purity: purity.Purity

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def row(self) -> dict[str, float]:
        """`COLUMNS` with their values: percent, but `COUNTS` are integers and Trk/Id is a ratio."""
        return {
            "HOTA": 100 * float(self.hota.hota.mean()),
            "DetA": 100 * float(self.hota.det_a.mean()),
            "AssA": 100 * float(self.hota.ass_a.mean()),
            "AssPr": 100 * float(self.hota.ass_pr.mean()),
            "AssRe": 100 * float(self.hota.ass_re.mean()),
            "MOTA": 100 * self.clear.mota,
            "IDF1": 100 * self.identity.f1,
            "IDSW": self.clear.id_switches,
            "Frag": self.clear.fragmentations,
            "FP": self.clear.false_positives,
            "FN": self.clear.false_negatives,
            "Pur": 100 * self.purity.purity,
            "MixTrk": 100 * self.purity.mixed_share,
            "IDt": self.purity.in_tracklet_switches,
            "Trk/Id": self.purity.tracklets_a_person,
            "FPbox": 100 * self.purity.unmatched_share,
        }


def evaluate(sequence: ScoredSequence) -> Scores:
    """Score one sequence."""
    return Scores(
        hota=hota.evaluate(sequence),
        clear=clear.evaluate(sequence),
        identity=identity.evaluate(sequence),
        purity=purity.evaluate(sequence),
    )
