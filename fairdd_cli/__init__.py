"""Distil a biased image data set into a few synthetic images per class that train accurate, fair models."""

__version__ = "0.1.0"
