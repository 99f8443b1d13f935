"""Words instead of training: text towers, their tokenizers, and classifiers from labels alone."""
