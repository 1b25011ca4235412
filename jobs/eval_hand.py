"""Evaluate a checkpoint of METRO on a data set: METRO's line, and result.json in the output folder.

python jobs/eval_hand.py --resume_checkpoint runs/demo/checkpoints/best --val_yaml data/val.yaml
"""

import sys

from metro_ray.cli.guard import plain_errors
from metro_ray.config.cli import parse_given

if __name__ == "__main__":
    with plain_errors():
        given = parse_given("hand", sys.argv[1:], "Evaluate")
        from metro_ray.cluster.evaluate import run_evaluate

        print(run_evaluate("hand", given).text())
