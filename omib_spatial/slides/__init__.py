"""What an AnnData says of its slides, without torch: counts, coordinates, graphs, images, labels."""

from omib_spatial.slides.layout import Layout
from omib_spatial.slides.tissue import Tissue

__all__ = ["Layout", "Tissue"]
