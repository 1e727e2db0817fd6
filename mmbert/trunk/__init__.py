"""The shared text transformer and its text processor."""
