"""What each spot's score is made of: modalities, genes, windows of the genome, statistics of the image."""

import numpy as np

from omib_spatial.detector.explained_slice import ExplainedSlice
from omib_spatial.detector.explanation import Explanation, FeatureSums
from omib_spatial.detector.judged import JudgedSlice
from omib_spatial.detector.judged_tissue import JudgedTissue


class Explainer(JudgedTissue):
    """Takes the scores of a tissue apart, slice by slice; made as `JudgedTissue` is."""

    def explain(self, weights: np.ndarray) -> Explanation:
        """Contributions of every spot, and sums of features' contributions with ``weights`` (n_obs, g)."""
        width = sum(summary.width for summary in self.model.summaries.values())
        result = Explanation.blank(self.tissue.n_obs, len(self.model.modalities), width)
        for judged in self.slices:
            ExplainedSlice(self, judged, weights[judged.rows], result).write(result)
        return result

    def of_spots(self, judged: JudgedSlice, rows: np.ndarray) -> FeatureSums:
        """What features make up of each of some ``rows`` (m,) of one slice: sums over one spot."""
        sums = FeatureSums()
        ExplainedSlice(self, judged, (judged.rows[:, None] == rows).astype(np.float64), sums)
        return sums
