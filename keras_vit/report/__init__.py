"""The HTML page that shows a run: numbers and images that other parts made."""
