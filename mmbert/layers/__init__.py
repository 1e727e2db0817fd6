"""Small modules shared by rooms, one a file."""
