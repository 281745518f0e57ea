"""Training: a recipe, the loop that runs it, its losses."""

from snn_energy.training.loop import Result, train
from snn_energy.training.recipe import Recipe, list_recipes, load_recipe
from snn_energy.training.run import Step

__all__ = ["Recipe", "Result", "Step", "list_recipes", "load_recipe", "train"]
