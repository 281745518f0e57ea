"""Training: a recipe, the loop that runs it, its losses."""
