"""The root of the tests, so that they import the checkout."""

collect_ignore = ["tests/plugins"]  # importing a plugin registers its parts for all tests
