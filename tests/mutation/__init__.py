"""Mutation testing: change the critical modules in small ways and see which changes the tests notice."""
