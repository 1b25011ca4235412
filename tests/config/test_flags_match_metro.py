"""Our parser against METRO's: same values or same refusal for any command line without a dot or --preset."""

import argparse
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metro_ray.config.flag_parser import flag_parser
from metro_ray.config.flags import flags_of

RECORDED = json.loads(Path(__file__).with_name("metro_flags.json").read_text())
TYPES = {"str": str, "int": int, "float": float}
KINDS = ("body", "hand")


def metro_parser(kind):
    parser = argparse.ArgumentParser()
    for names, type_, default in RECORDED[kind]:
        if type_ == "switch":
            parser.add_argument(*names, default=default, action="store_true")
        else:
            parser.add_argument(*names, default=default, type=TYPES[type_])
    return parser


METRO = {kind: metro_parser(kind) for kind in KINDS}
OURS = {kind: flag_parser(kind, "test") for kind in KINDS}


def outcome(parse, argv):
    try:
        return parse(argv)
    except SystemExit as stop:
        return f"exit {stop.code}"


def metro_outcome(kind, argv):
    return outcome(lambda a: vars(METRO[kind].parse_args(a)), argv)


def our_outcome(kind, argv):
    def parse(argv):
        defaults = {flag.dest: flag.metro_default(kind) for flag in flags_of(kind)}
        return defaults | {g.flag.dest: g.value for g in OURS[kind].parse_args(argv).flags}

    return outcome(parse, argv)


@pytest.mark.parametrize(("kind", "number"), [("body", 32), ("hand", 34)])
def test_the_table_is_metros(kind, number):
    ours = {
        flag.names: (flag.type.__name__.replace("bool", "switch"), flag.metro_default(kind))
        for flag in flags_of(kind)
    }
    assert len(ours) == number
    assert ours == {tuple(names): (type_, default) for names, type_, default in RECORDED[kind]}


@pytest.mark.parametrize("kind", KINDS)
def test_every_prefix_of_every_option_with_every_kind_of_value(kind, capsys):
    values = ["3", "0.5", "-1", "-0.5", "-1e-3", "resnet50", "1,2", "", "None", "a b", "-x"]
    checked = 0
    for names, *_ in RECORDED[kind]:
        for name in names:
            for end in range(2, len(name) + 1):
                prefix = name[:end]
                if "--preset".startswith(prefix) and prefix not in ("--", "--p"):
                    continue  # --pr.. is ours; METRO refuses it
                lines = [
                    [prefix],
                    *([prefix, v] for v in values),
                    *([f"{prefix}={v}"] for v in values),
                ]
                for argv in lines:
                    assert our_outcome(kind, argv) == metro_outcome(kind, argv), argv
                    checked += 1
    assert checked > 3000
    capsys.readouterr()


words = st.sampled_from(
    [name for kind in KINDS for names, *_ in RECORDED[kind] for name in names]
    + ["-h", "-aresnet50", "--", "--nope", "--a", "--vloss", "--l", "-l", "--num_t", "--ru", "x"]
)
texts = st.sampled_from(
    ["1", "0.25", "-7", "-.5", "1e-4", "-1e-4", "None", "2051,512", "", "-", "a=b"]
)
tokens = st.one_of(words, texts, st.builds(lambda w, t: f"{w}={t}", words, texts))


@given(kind=st.sampled_from(KINDS), argv=st.lists(tokens, max_size=6))
@example(kind="hand", argv=["--vloss_w_sub2", "1"])
@example(kind="body", argv=["--vloss_w_sub", "1"])
@example(kind="body", argv=["--lr", "1", "--learning_rate", "2"])
@settings(max_examples=400, deadline=None)
def test_any_command_line(kind, argv):
    assert our_outcome(kind, argv) == metro_outcome(kind, argv)
