"""Training: recipes, starting models, supervised fine-tuning on eliminations and whole rankings."""
