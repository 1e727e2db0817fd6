"""The root of the tests, so that they import the checkout."""

collect_ignore = ["tests/plugins"]  # importing a plugin registers its parts for all tests
collect_ignore_glob = ["tests/*/conftest.py"]  # they hold no doctests, and two of them would share a module's name
