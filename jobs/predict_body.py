"""Predict the bodies of a data set: joints and vertices of every row in one .npz.

python jobs/predict_body.py --model_path runs/demo/checkpoints/best --val_yaml data/val.yaml
"""

import sys

from metro_ray.cli.guard import plain_errors
from metro_ray.config.cli import parse_given

if __name__ == "__main__":
    with plain_errors():
        given = parse_given("body", sys.argv[1:], "Predict with")
        from metro_ray.cluster.predict import run_predict

        print(run_predict("body", given).text())
