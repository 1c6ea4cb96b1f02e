"""Knows what has been: paths, snapshots, patients and their folds, models. Plain text files only."""
