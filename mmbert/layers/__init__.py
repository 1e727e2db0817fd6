"""Small modules and tensor functions that several packages share."""
