import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metro_ray.training.context import LocalWorker
from metro_ray.training.loop import fit


def run_two(script, folder, *arguments):
    """Both ranks' outputs and what they wrote."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    path = Path(__file__).with_name(script)
    ranks = [
        subprocess.Popen(
            [sys.executable, str(path), str(folder), str(rank), *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(outputs)
    return outputs, [json.loads((folder / f"rank{r}.json").read_text()) for r in (0, 1)]


def test_two_ranks_measure_the_checkpoint_that_rank_0_writes(
    body, tiny_data, make_config, tmp_path
):
    """Their BatchNorm statistics differ while training, but not when they validate."""
    outputs, (first, second) = run_two("two_ranks.py", tmp_path)
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


@pytest.mark.parametrize("accumulate_steps", [1, 2])
def test_ranks_leave_out_a_step_together_and_exchange_once_a_step(tmp_path, accumulate_steps):
    outputs, (first, second) = run_two("two_ranks_switches.py", tmp_path, accumulate_steps)
    expected = [True, True, True, False] if accumulate_steps == 1 else [True, False]
    assert first["applied"] == second["applied"] == expected
    assert first["weights"] == second["weights"]
    assert first["weights"][-1] == first["weights"][-2], "the step that was left out"
    assert first["weights"][0] != first["weights"][-1] or accumulate_steps == 2
    assert first["exchanges"] == second["exchanges"] == len(expected)
    [line] = [line for line in outputs[0].splitlines() if "is not finite" in line]
    assert "total nan" in line
    assert line.count(".jpg") == 1, "rank 0 names the row of rank 1"
    assert "is not finite" not in outputs[1]
