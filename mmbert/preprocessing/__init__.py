"""Raw values to arrays."""
