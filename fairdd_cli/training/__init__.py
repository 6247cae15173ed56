"""Fitting classifiers: configuration, loop, augmentation and the features that a trained network sees."""
