"""The fusions that OMIB is compared with, each from its paper, around the same encoders, heads and training."""

from omib_spatial.benchmarks.fusions._rival import FusionNet, FusionOutput, Rival, build
from omib_spatial.benchmarks.fusions.alignment import MMIBCui, MMIBZhang
from omib_spatial.benchmarks.fusions.bottlenecks import CMIB, EMIB, LMIB, DeepIB
from omib_spatial.benchmarks.fusions.dmib import DMIB
from omib_spatial.benchmarks.fusions.gates import BiGated, Concat, FiLM
from omib_spatial.benchmarks.fusions.misa import MISA
from omib_spatial.benchmarks.fusions.ogmge import OGMGE

RIVALS: dict[str, type[Rival]] = {
    rival.__name__: rival
    for rival in (Concat, BiGated, FiLM, MISA, DeepIB, MMIBCui, MMIBZhang, DMIB, EMIB, LMIB, CMIB, OGMGE)
}
"""By name, in the order of the tables."""

__all__ = ["RIVALS", "FusionNet", "FusionOutput", "Rival", "build", *RIVALS]
