"""Training data from a teacher: reasoning, grades and orders, filtered and written as rows."""
