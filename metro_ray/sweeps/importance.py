"""Which of the searched settings the error depends on: Optuna's functional ANOVA."""

from __future__ import annotations

import warnings
from typing import Any

from metro_ray.config.sweep import METRIC
from metro_ray.errors import ConfigError
from metro_ray.sweeps.ledger import Ledger, SweepRecord
from metro_ray.sweeps.search import coded, distributions, import_optuna

LEAST_TRIALS = 6
"""With fewer, the answer is chance."""
_SEED = 0


def importances(ledger: Ledger, record: SweepRecord) -> tuple[dict[str, float], str]:
    """Share of each setting in how much the trials' best errors vary, and what to know about it.

    Stopped trials count with the error they had, which is some way above what they would have come
    to; that keeps them behind, which is what the shares rest on.

    Returns:
        Shares by dotted key, largest first; empty where there is no answer. The reason or remark.
    """
    varied = [d for d in record.space.dimensions if len(set(map(str, d.ends))) > 1]
    scored = [(t, s) for t in ledger.trials.values() if (s := ledger.score(t.number)) is not None]
    if len(scored) < LEAST_TRIALS:
        return {}, f"needs {LEAST_TRIALS} trials with a validation, there are {len(scored)}"
    if len(varied) < 2:
        return {}, "only one setting was varied"
    try:
        optuna = import_optuna()
        from optuna.importance import FanovaImportanceEvaluator

        evaluator: Any = FanovaImportanceEvaluator(seed=_SEED)
    except (ConfigError, ImportError):
        return {}, "needs Optuna and scikit-learn: pip install 'metro-ray[search]'"
    study = optuna.create_study(direction="minimize")
    axes = distributions(record.space)
    for trial, score in scored:
        params = coded(record.space, trial.values_at(score.epoch))
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=axes, value=score.pa_mpjpe_mm, system_attrs={}
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        except RuntimeError as error:  # all errors equal
            return {}, str(error)
    remark = f"of {len(scored)} trials; a hint with few of them. Error: {METRIC}"
    return {key: float(share) for key, share in shares.items()}, remark
