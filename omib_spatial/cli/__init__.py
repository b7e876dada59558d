"""The command line."""

from omib_spatial.cli.commands import app

__all__ = ["app"]
