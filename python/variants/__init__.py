"""Families of variants; the order of imports is the order in which they are made."""

from . import exporters, rewrites, tools, others  # noqa: F401, I001
from .bench import RECIPES, Bench, Built, Recipe

__all__ = ["RECIPES", "Bench", "Built", "Recipe"]
