"""Scores of a model on batches; knows no data set."""
