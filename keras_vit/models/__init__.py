"""Architectures: functions from an input tensor to an output tensor, composed of our layers."""
