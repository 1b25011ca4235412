"""Search for settings of METRO on human bodies: learning rate, layers, whatever has a dotted key.

python jobs/tune_body.py --preset demo --tune.space lr_layers --tune.trials 8
ray job submit --working-dir . -- python jobs/tune_body.py --preset demo --tune.trials 8
"""

import sys

from metro_ray.cli.guard import plain_errors
from metro_ray.cli.tune import tune

if __name__ == "__main__":
    with plain_errors():
        tune("body", sys.argv[1:])
