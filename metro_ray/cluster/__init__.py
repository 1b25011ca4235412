"""Ray starts here: sessions, resources, ingest and the trainer around `training.loop`."""
