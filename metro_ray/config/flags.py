"""METRO's command-line options as one table: 32 of the body script, 34 of the hand script.

Names, types and defaults are those of METRO's `metro/tools/run_metro_bodymesh.py` and
`run_metro_handmesh.py`, so its command lines work unchanged. An option is a second spelling of a
dotted key of `schema.py`, or has no effect here (nor had it in METRO) and says so when it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from metro_ray.config.schema import Kind
from metro_ray.errors import ConfigError

_ABSENT: Final = object()
_METRO: Final = object()


class Split(NamedTuple):
    """A default that differs between METRO's two scripts."""

    body: object
    hand: object


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """One option of METRO's parsers."""

    names: tuple[str, ...]
    type: Callable[[str], Any]
    """`bool` marks a switch without a value."""
    metro: Split
    """METRO's defaults; `_ABSENT` where a script lacks the option."""
    key: str | None
    """Dotted key it sets; None: no effect here."""
    no_effect: str
    """Why there is none."""
    read: Callable[[str, Any], Any] | None
    """Turns the option's name and METRO's value into our value."""
    level: int | None
    """Which weight of loss.levels it sets, counted from the full mesh: -1, -2, -3."""
    ours: object
    """Our default where METRO's is a placeholder that cannot work; else `_METRO`."""
    group: str = ""
    """Its heading in --help."""

    @property
    def dest(self) -> str:
        """Attribute that argparse stores it under."""
        return next(name for name in self.names if name.startswith("--")).removeprefix("--")

    def metro_default(self, kind: Kind) -> object:
        """Default of METRO's parser."""
        return self.metro.body if kind == "body" else self.metro.hand

    def default(self, kind: Kind) -> object:
        """The default here, as the dotted key takes it."""
        return self.value(self.metro_default(kind)) if self.ours is _METRO else self.ours

    def value(self, metro_value: object) -> object:
        """A value of METRO's parser as the dotted key takes it.

        Raises:
            ConfigError: A value that METRO's parser accepts and METRO then fails on.
        """
        return metro_value if self.read is None else self.read(f"--{self.dest}", metro_value)


def _flag(
    names: str,
    type_: Callable[[str], Any],
    metro: object,
    key: str | None = None,
    *,
    no_effect: str = "",
    read: Callable[[str, Any], Any] | None = None,
    level: int | None = None,
    ours: object = _METRO,
) -> Flag:
    return Flag(
        names=tuple(names.split()),
        type=type_,
        metro=metro if isinstance(metro, Split) else Split(metro, metro),
        key=key,
        no_effect=no_effect,
        read=read,
        level=level,
        ours=ours,
    )


def _int_list(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(item) for item in text.split(","))
    except ValueError:
        raise ConfigError(
            f"{name} must be whole numbers with commas, as 2051,512,128; got {text!r}"
        ) from None


def _text_or_none(_name: str, text: str | None) -> str | None:
    return None if text in (None, "None") else text


def _count(name: str, number: int) -> int:
    if number < 1:
        raise ConfigError(
            f"{name} must be >= 1, got {number}. METRO reads {number} as BERT's 12, which none of "
            f"its released models has (and 12 heads divide none of its widths): pass {name} 4"
        )
    return number


def _device(name: str, text: str) -> str:
    if text.startswith("cuda:"):
        raise ConfigError(
            f"{name} {text} picks one GPU, but the cluster gives each rank its own: pass {name} "
            "cuda, limit the GPUs with CUDA_VISIBLE_DEVICES, the ranks with --scaling.train_workers"
        )
    return text


_NO_BERT = "the transformer has no BERT configuration file; --help lists its settings"
_WIDTH = "METRO overwrites it too, "
_FOUR: dict[str, Any] = {"read": _count, "ours": 4}

_TABLE: dict[str, tuple[Flag, ...]] = {
    "data": (
        _flag("--data_dir", str, "datasets", "data.root"),
        _flag("--train_yaml", str, "imagenet2012/train.yaml", "data.train_yaml", ours=None),
        _flag("--val_yaml", str, "imagenet2012/test.yaml", "data.val_yaml", ours=None),
        _flag("--num_workers", int, 4, "data.loader_workers"),
        _flag("--img_scale_factor", int, 1, no_effect="METRO's data sets ignore it too"),
    ),
    "checkpoints": (
        _flag(
            "--model_name_or_path",
            str,
            "metro/modeling/bert/bert-base-uncased/",
            no_effect=_NO_BERT,
        ),
        _flag("--resume_checkpoint", str, None, "run.resume_checkpoint", read=_text_or_none),
        _flag("--output_dir", str, "output/", "run.output_dir"),
        _flag("--config_name", str, "", no_effect=_NO_BERT),
    ),
    "training": (
        _flag("--per_gpu_train_batch_size", int, Split(30, 64), "optim.per_gpu_batch_size"),
        _flag("--per_gpu_eval_batch_size", int, Split(30, 64), "eval.per_gpu_batch_size"),
        _flag("--lr --learning_rate", float, 1e-4, "optim.lr"),
        _flag("--num_train_epochs", int, 200, "optim.epochs"),
        _flag("--vertices_loss_weight", float, Split(100.0, 1.0), "loss.vertices"),
        _flag("--joints_loss_weight", float, Split(1000.0, 1.0), "loss.joints"),
        _flag("--vloss_w_full", float, Split(0.33, 0.5), "loss.levels", level=-1),
        _flag("--vloss_w_sub", float, Split(0.33, 0.5), "loss.levels", level=-2),
        _flag("--vloss_w_sub2", float, Split(0.33, _ABSENT), "loss.levels", level=-3),
        _flag("--drop_out", float, 0.1, "model.drop_out"),
    ),
    "network": (
        _flag("-a --arch", str, "hrnet-w64", "model.arch"),
        _flag("--num_hidden_layers", int, Split(4, -1), "model.num_hidden_layers", **_FOUR),
        _flag("--hidden_size", int, -1, no_effect=_WIDTH + "with --hidden_feat_dim"),
        _flag("--num_attention_heads", int, Split(4, -1), "model.num_attention_heads", **_FOUR),
        _flag("--intermediate_size", int, -1, no_effect=_WIDTH + "with its own rule"),
        _flag("--input_feat_dim", str, "2051,512,128", "model.input_feat_dim", read=_int_list),
        _flag(
            "--hidden_feat_dim",
            str,
            Split("1024,256,128", "1024,256,64"),
            "model.hidden_feat_dim",
            read=_int_list,
        ),
        _flag("--legacy_setting", bool, Split(True, _ABSENT), no_effect="it is always on"),
    ),
    "evaluation and others": (
        _flag("--run_eval_only", bool, False, "eval.only"),
        _flag("--multiscale_inference", bool, Split(_ABSENT, False), "eval.multiscale"),
        _flag("--rot", float, Split(_ABSENT, 0.0), "eval.rotation_deg"),
        _flag("--sc", float, Split(_ABSENT, 1.0), "eval.scale_factor"),
        _flag("--aml_eval", bool, Split(_ABSENT, False), "eval.aml"),
        _flag("--logging_steps", int, Split(1000, 100), "run.log_every"),
        _flag("--device", str, "cuda", "run.device", read=_device, ours="auto"),
        _flag("--seed", int, 88, "optim.seed"),
        _flag("--local_rank", int, 0, no_effect="start one process only: Ray starts the ranks"),
    ),
}

MODEL_PATH = replace(
    _flag("--model_path", str, None, "run.resume_checkpoint", read=_text_or_none),
    group="checkpoints",
)
"""The option of METRO's prediction script that its training scripts do not have."""

FLAGS: tuple[Flag, ...] = tuple(
    replace(flag, group=group) for group, rows in _TABLE.items() for flag in rows
)
"""Every option of either script."""


def flags_of(kind: Kind) -> list[Flag]:
    """The options of METRO's script for bodies or hands."""
    return [flag for flag in FLAGS if flag.metro_default(kind) is not _ABSENT]


def task_defaults(kind: Kind) -> dict[str, Any]:
    """METRO's defaults by dotted key: what a run of this kind uses when nothing else is said.

    METRO's hand script says -1 layers and heads, BERT's 12, which fails; here hands have the 4 and
    4 of its released model.
    """
    defaults: dict[str, Any] = {}
    levels: dict[int, object] = {}
    for flag in flags_of(kind):
        if flag.level is not None:
            levels[flag.level] = flag.default(kind)
        elif flag.key is not None:
            defaults[flag.key] = flag.default(kind)
    defaults["loss.levels"] = tuple(levels[index] for index in sorted(levels))
    return defaults
