"""How fast strategies, layouts and backends rank, side by side with the loops of the published code."""
