"""Recipes: what may stand in one, how it is read, and how problems are told."""
