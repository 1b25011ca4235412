"""A sweep of eight trials over learning rate and layers, against the preset with the same budget.

    python benchmarks/sweep.py --work /tmp/sweep --out benchmarks/results/sweep.json

What a trial costs beside its own steps is its time from start to end less the time its run counts
itself: starting and ending processes. Trial 0 is the preset itself, so the comparison is within the
sweep. Two free cores and the defaults below should take less than ten minutes.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from about import about, save

from metro_ray.sweeps.best import best_checkpoint
from metro_ray.sweeps.ledger import Ledger
from metro_ray.sweeps.table import rows

JOB = Path(__file__).parents[1] / "jobs" / "tune_body.py"


def command(arguments):
    """The sweep: the demo's network and rendered people, one rank a trial."""
    work = arguments.work.absolute()
    return [
        *(sys.executable, str(JOB), "--preset", "demo"),
        *("--tune.space", "lr_layers", "--tune.trials", str(arguments.trials)),
        *("--optim.epochs", str(arguments.epochs), "--scaling.train_workers", "1"),
        *("--data.train_yaml", f"{work}/data/train.yaml"),
        *("--data.val_yaml", f"{work}/data/val.yaml"),
        *("--data.synth_train", str(arguments.images)),
        *("--data.synth_val", str(arguments.images // 4)),
        *("--run.output_dir", f"{work}/sweep"),
    ]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for data and sweep")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=200, help="training images of a trial")
    arguments = parser.parse_args()
    machine = about("ray", "torch", "optuna")
    started = time.perf_counter()
    subprocess.run(command(arguments), check=True)
    seconds = time.perf_counter() - started
    ledger = Ledger.open(arguments.work / "sweep")
    table = rows(ledger, ledger.settings())
    beside = [row["wall_seconds"] - row["seconds"] for row in table if row["seconds"] is not None]
    best = best_checkpoint(ledger.folder)
    found = {
        "machine": machine,
        "load_average_at_the_end": about()["load_average"],
        "images": arguments.images,
        "epochs": arguments.epochs,
        "seconds": round(seconds, 1),
        "trials": len(table),
        "stopped": sum(row["state"] == "stopped" for row in table),
        "seconds_beside_a_trial_s_own_steps": [round(value, 1) for value in beside],
        "median_beside": round(statistics.median(beside), 1),
        "preset_pa_mpjpe_mm": round(table[0]["pa_mpjpe_mm"], 2),
        "best_pa_mpjpe_mm": round(best.value, 2),
        "best_values": best.values,
    }
    save(found, arguments.out)


if __name__ == "__main__":
    main()
