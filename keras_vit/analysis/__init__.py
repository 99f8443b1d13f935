"""What a model looks at: recomputed from outside, so that the model itself stays as it is."""
