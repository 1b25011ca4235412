"""Train or evaluate METRO on human hands.

python jobs/train_hand.py --preset demo_hand
ray job submit --working-dir . -- python jobs/train_hand.py --preset demo_hand
"""

import sys

from metro_ray.cli.guard import plain_errors
from metro_ray.config.cli import parse_train

if __name__ == "__main__":
    with plain_errors():
        config = parse_train("hand", sys.argv[1:])
        from metro_ray.cluster.train import run_train

        print(run_train(config).text())
