"""METRO's parsers rebuilt from the table of `flags.py`, with `--preset` and a help of it all."""

from __future__ import annotations

import argparse
import difflib
import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from metro_ray.config.flags import Flag, flags_of, task_defaults
from metro_ray.config.keys import all_keys, help_texts, sections
from metro_ray.config.schema import Kind

_LOG = logging.getLogger(__name__)
_UNRECOGNIZED = "unrecognized arguments: "


class GivenFlag(NamedTuple):
    """A METRO flag as it stands on the command line."""

    flag: Flag
    value: Any
    spelled: str
    """As METRO spells it in full, with the value."""
    earlier: tuple[str, ...]
    """Spellings of the same flag before it, which do not count."""


class Given(argparse.Namespace):
    """What the arguments say, and nothing of what they do not say."""

    preset: str | None
    by_dest: dict[str, GivenFlag]

    @property
    def flags(self) -> list[GivenFlag]:
        """METRO's flags, each once, in the order of their first occurrence."""
        return list(self.by_dest.values())


class FlagParser(argparse.ArgumentParser):
    """METRO's parser of one task; collects the flags that are given instead of a full namespace."""

    def __init__(self, kind: Kind, prog: str | None, purpose: str) -> None:
        super().__init__(
            prog=prog,
            description=f"{purpose} METRO on {'bodies' if kind == 'body' else 'hands'}.",
            usage="%(prog)s [--preset NAME|FILE] [METRO's flags] [--section.key VALUE ...]",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._kind: Kind = kind

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Given:
        """Parse; a usage error ends the process with status 2, as argparse does."""
        return super().parse_args(args, namespace or Given(preset=None, by_dest={}))

    def format_help(self) -> str:
        """METRO's flags by group, then every dotted key; made only when it is asked for."""
        texts, defaults = help_texts(), task_defaults(self._kind)
        for action in self._actions:
            if isinstance(action, _Remember):
                action.help = _flag_help(action.flag, texts, defaults)
        self.epilog = _keys_help(texts, defaults)
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Add what may have been meant to argparse's message about an unknown option."""
        if message.startswith(_UNRECOGNIZED):
            hints = [_meant(word, self._kind) for word in message.split() if word.startswith("--")]
            message = "; ".join([message, *filter(None, hints)])
        super().error(message)


class _Remember(argparse.Action):
    """Keep a flag with its spelling; argparse's own store drops both."""

    def __init__(self, *args: Any, flag: Flag, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.flag = flag

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        is_switch = self.nargs == 0
        spelled = f"{option_string}" if is_switch else f"{option_string} {values}"
        value = True if is_switch else values
        assert isinstance(namespace, Given)
        before = namespace.by_dest.get(self.dest)
        earlier: tuple[str, ...] = ()
        if before is not None:
            earlier = before.earlier + (() if before.value == value else (before.spelled,))
        namespace.by_dest[self.dest] = GivenFlag(self.flag, value, spelled, earlier)


class _Once(argparse.Action):
    """Store a value, and refuse a second one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        first = getattr(namespace, self.dest)
        if first not in (None, values):
            parser.error(f"{option_string} is given twice: {first} and {values}")
        setattr(namespace, self.dest, values)


def flag_parser(
    kind: Kind,
    prog: str | None = None,
    *,
    purpose: str = "Train or evaluate",
    more: Iterable[Flag] = (),
) -> FlagParser:
    """METRO's parser for bodies or hands, with unique prefixes as abbreviations.

    Args:
        kind: "body" or "hand".
        prog: Name of the program in the usage line.
        purpose: What the program does, for --help.
        more: Options beside those of METRO's training scripts.
    """
    parser = FlagParser(kind, prog, purpose)
    parser.add_argument(
        "--preset",
        metavar="NAME|FILE",
        action=_Once,
        help="settings to start from: `metro-ray presets` lists them",
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for flag in (*flags_of(kind), *more):
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(f"METRO's flags: {flag.group}")
        shape: dict[str, Any] = {"nargs": 0} if flag.type is bool else {"type": flag.type}
        groups[flag.group].add_argument(
            *flag.names,
            dest=flag.dest,
            action=_Remember,
            default=argparse.SUPPRESS,
            flag=flag,
            **shape,
        )
    return parser


def log_remarks(given: Iterable[GivenFlag]) -> None:
    """Say once for each flag without effect, and for each that was given twice, what holds."""
    for item in given:
        if item.flag.key is None:
            _LOG.warning("--%s has no effect: %s", item.flag.dest, item.flag.no_effect)
        elif item.earlier:
            _LOG.warning("%s counts, not %s", item.spelled, " or ".join(item.earlier))


def _flag_help(flag: Flag, texts: dict[str, str], defaults: dict[str, Any]) -> str:
    if flag.key is None:
        return f"no effect: {flag.no_effect}".replace("%", "%%")
    text, default = texts[flag.key], defaults[flag.key]
    if flag.level is not None:
        mesh = ("full", "middle" if len(default) == 3 else "coarse", "coarse")[-1 - flag.level]
        text, default = f"Share of the {mesh} mesh in the vertex loss.", default[flag.level]
    return f"{text} [{flag.key}, default {_shown(default)}]".replace("%", "%%")


def _keys_help(texts: dict[str, str], defaults: dict[str, Any]) -> str:
    import shutil
    import textwrap

    width = max(shutil.get_terminal_size().columns - 2, 40)
    lines = ["dotted keys (--section.key VALUE or --section.key=VALUE):"]
    for section, cls in sections().items():
        lines += ["", f"  {section}: {cls.__doc__}"]
        for key in all_keys().values():
            if not key.name.startswith(f"{section}."):
                continue
            default = _shown(defaults.get(key.name, key.default))
            lines.append(f"    --{key.name}  {key.expected}; default {default}")
            lines += textwrap.wrap(
                texts[key.name], width, initial_indent=" " * 8, subsequent_indent=" " * 8
            )
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _meant(word: str, kind: Kind) -> str:
    name = word.removeprefix("--").partition("=")[0]
    keys = [key for key in all_keys() if key.rpartition(".")[2] == name]
    flags = difflib.get_close_matches(name, [flag.dest for flag in flags_of(kind)], n=2, cutoff=0.7)
    near = [f"--{option}" for option in keys + flags]
    return f"instead of {word}: {' or '.join(near)}?" if near else ""
