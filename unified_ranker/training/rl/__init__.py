"""Reinforcement learning with verl: rows, the on-policy agent loop, credit step by step, launching and exporting."""
