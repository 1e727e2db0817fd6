"""What the inputs of a trained model contribute."""
