"""How long a run is: its epochs, and those between evaluations, in steps."""

from mmbert.recipe.schema import Recipe


def steps_of(recipe: Recipe, rows: int) -> tuple[int, int]:
    """Optimiser steps of a run, and steps between evaluations, for so many training rows."""
    epoch = rows / recipe.train.batch_size
    total = recipe.train.steps or max(1, round((recipe.train.epochs or 1) * epoch))
    return total, min(total, max(1, round(recipe.evaluate.every * epoch)))


def in_steps(recipe: Recipe, total: int) -> Recipe:
    """The recipe of a run as its folder keeps it, and as the ledger names it by its hash."""
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": total, "epochs": None})})
