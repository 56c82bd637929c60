"""Does what is learned from some domains help on others? Train without one, test on it."""
