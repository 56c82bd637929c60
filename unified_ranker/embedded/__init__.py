"""The model that comes with the package; see ``README.md`` in this folder for its card."""
