"""Kotlin code that runs an exported .tflite file in an Android app."""
