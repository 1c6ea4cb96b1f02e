"""Knows what has been: paths, snapshots, patients and their folds, models. Records are plain text."""
