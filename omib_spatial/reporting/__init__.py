"""One page about scored slides that opens in any browser, without network."""

from omib_spatial.reporting._report import report

__all__ = ["report"]
