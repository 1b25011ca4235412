"""Settings of a run. Imports neither torch nor ray."""
