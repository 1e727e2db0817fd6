"""From a recipe to live objects: data, processors, model, trunk cache."""
