"""Fairness strategies: which group targets the synthetic images of a class are matched to."""
