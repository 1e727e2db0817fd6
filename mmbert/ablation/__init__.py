"""Ablation studies: many variants of a recipe, over seeds, compared with honest statistics."""
