"""The keys of a recipe for people, with their meaning."""

from __future__ import annotations

from omnisource.printing import show
from omnisource.recipe.keys import describe_keys
from omnisource.recipe.recipe import Recipe


def print_keys(recipe: Recipe) -> None:
    """Prints every key that an override can set, with its value and its meaning."""
    for key, value, meaning in describe_keys(recipe):
        show(f"{key}={value}\n    {meaning}")
