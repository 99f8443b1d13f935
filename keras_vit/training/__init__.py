"""Training: recipes, schedules and the one fit path."""
