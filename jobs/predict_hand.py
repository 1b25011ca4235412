"""Predict the hands of a data set, FreiHAND's evaluation set by default, for its leaderboard.

python jobs/predict_hand.py --model_path metro_hand_state_dict.bin [--multiscale_inference]
"""

import sys

from metro_ray.cli.guard import plain_errors
from metro_ray.config.cli import parse_given

if __name__ == "__main__":
    with plain_errors():
        given = parse_given("hand", sys.argv[1:], "Predict with")
        from metro_ray.cluster.predict import run_predict

        print(run_predict("hand", given).text())
