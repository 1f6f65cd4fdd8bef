"""Loads the fixtures every folder of tests may use."""

pytest_plugins = ["pytester", "tests.needs", "tests.stores"]
