"""The `metro-ray` command: one module a verb; each imports its room only when it runs."""
