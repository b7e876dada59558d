"""What a user sets once for all calls, or by environment variables."""

FIGURE_FORMATS = ("png", "pdf", "svg", "jpg", "jpeg", "tif", "tiff", "webp")
"""Endings of pictures that plots write."""
