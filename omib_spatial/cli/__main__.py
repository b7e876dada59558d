"""``python -m omib_spatial.cli``."""

from omib_spatial.cli.commands import app

app()
