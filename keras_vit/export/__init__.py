"""From a trained model to files that run elsewhere, with the proof that they answer alike."""
