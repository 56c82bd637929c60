"""Readers of raw files: one source a file, each giving plain records that know nothing of prompts or splits."""
