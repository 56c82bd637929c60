"""Rewards for reinforcement learning: pure functions of the example, the step and the parsed reply."""
