"""The HTML page that shows a run: numbers and pictures that other parts made."""
