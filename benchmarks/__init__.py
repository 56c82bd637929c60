"""Measuring rankers: effectiveness with intervals, the exact expectation of random order, and the table of results."""
