import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metro_ray.training.context import LocalWorker
from metro_ray.training.loop import fit

SCRIPT = Path(__file__).with_name("two_ranks.py")


def test_two_ranks_measure_the_checkpoint_that_rank_0_writes(
    body, tiny_data, make_config, tmp_path
):
    """Their BatchNorm statistics differ while training, but not when they validate."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path), str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(outputs)
    first, second = (json.loads((tmp_path / f"rank{r}.json").read_text()) for r in (0, 1))
    assert first["metrics"] == second["metrics"]
    assert (first["reports"], second["reports"]) == (2, 2)
    assert (first["wrote"], second["wrote"]) == (True, False)
    assert "METRO INFO" in outputs[0]
    assert "METRO INFO" not in outputs[1]

    last = str(tmp_path / "run" / "checkpoints" / "last")
    config = make_config("alone", eval__only=True, run__resume_checkpoint=last)
    alone = fit(config, LocalWorker("cpu"), tiny_data(num_val=5), body=body).metrics
    for name in ("val/mpjpe_mm", "val/pa_mpjpe_mm", "val/mpve_mm", "val/num_rows"):
        assert alone[name] == pytest.approx(first["metrics"][name], rel=1e-5)
