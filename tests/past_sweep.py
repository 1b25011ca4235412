"""Files of trials as their runs leave them, without having trained."""

import csv
import json


def write_metrics(folder, errors, speed=5.0):
    """metrics.csv of a run with a validation after each epoch."""
    names = ["kind", "epoch", "step", "seconds", "epoch/images_per_second", "val/pa_mpjpe_mm"]
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for epoch, error in enumerate(errors):
            row = {"epoch": epoch, "step": 10 * (epoch + 1), "seconds": 20.0 * (epoch + 1)}
            writer.writerow({"kind": "epoch", "epoch/images_per_second": speed, **row})
            row["epoch"] = epoch + 1
            writer.writerow({"kind": "val", "val/pa_mpjpe_mm": error, **row})


def write_checkpoint(folder, epoch, error):
    """A folder that looks like checkpoints/best and checkpoints/last."""
    checkpoint = folder / "checkpoints" / f"checkpoint-{epoch}-{10 * epoch}"
    checkpoint.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt"):
        (checkpoint / name).write_bytes(b"x")
    meta = {
        "format": 3,
        "config": {},
        "mesh": "anny_body",
        "epoch": epoch,
        "step": 10 * epoch,
        "best": [],
        "metrics": {"val/pa_mpjpe_mm": error},
    }
    (checkpoint / "meta.json").write_text(json.dumps(meta))
    for link in ("best", "last"):
        (folder / "checkpoints" / link).symlink_to(checkpoint.name)
