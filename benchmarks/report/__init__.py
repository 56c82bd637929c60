"""From the files of runs to tables, pages and pictures; every figure is computed from the rankings, each time."""
