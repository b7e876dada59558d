"""Version of the package, without importing it."""

__version__ = "0.2.0.dev0"
