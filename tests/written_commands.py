"""The command lines that README, docs and jobs show, and what would parse each of them."""

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
JOBS = sorted((ROOT / "jobs").glob("*.py"))
_FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:metro-ray|python jobs/|python benchmarks/|ray |serve )[^`]*)`")
_PROGRAMS = ("metro-ray", "python", "ray", "serve", "make")
_ASSIGNMENT = re.compile(r"[A-Z_]+=")


class Written(NamedTuple):
    """One command and where it stands."""

    page: str
    words: list[str]
    is_whole: bool
    """In a block, to be copied; a name within a sentence may leave out what it needs."""

    def __str__(self):
        return f"{self.page}: {' '.join(self.words)}"


def written_commands():
    """All commands of ours and of Ray's on the pages, and those that the jobs' docstrings show."""
    found = []
    for page in PAGES:
        name, text = page.relative_to(ROOT).as_posix(), page.read_text()
        for block in _FENCE.findall(text):
            found += _of_lines(name, block, True)
        for line in _INLINE.findall(_FENCE.sub("", text)):
            found += _of_lines(name, " ".join(line.split()), False)
    for job in JOBS:
        docstring = ast.get_docstring(ast.parse(job.read_text())) or ""
        found += _of_lines(f"jobs/{job.name}", docstring.split("\n", 1)[1], True)
    return found


def _of_lines(page, text, is_whole):
    for line in text.replace("\\\n", " ").splitlines():
        if not line.startswith((*_PROGRAMS, "METRO_RAY_")):
            continue
        words = shlex.split(line, comments=True)
        while _ASSIGNMENT.match(words[0]):
            words = words[1:]
        words = words[: words.index("&")] if "&" in words else words
        words = words[: words.index("&&")] if "&&" in words else words
        if words[0] in _PROGRAMS:
            yield Written(page, _filled_in(words), is_whole)


def _filled_in(words):
    """`...` as the value of an option, or nothing; what stands in brackets, given."""
    filled = []
    for word in words:
        if word != "...":
            filled.append(word.strip("[]"))
        elif filled[-1].startswith("--"):
            filled.append("something")
    return filled


def parse(words):
    """Parse a whole command as its program would, up to where it would start to work.

    Raises:
        MetroRayError, SystemExit, click.UsageError, AssertionError: It does not parse.
    """
    program, *rest = words
    if program == "metro-ray":
        _parse_verb(rest[0], rest[1:])
    elif program == "python":
        _parse_script(rest[0], rest[1:])
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert rest[0] in targets, f"the Makefile has no {rest[0]}"
    else:
        _parse_ray(program, rest)


def options_of(words):
    """The help of the verb that a command names, as far as its words go."""
    module = _verb_module(words[1:3] if words[1] == "data" else words[1:2])
    return module.build_parser().format_help()


def _verb_module(names):
    from metro_ray.cli.main import VERBS

    assert names[0] in VERBS, f"metro-ray has no verb {names[0]}"
    return import_module("metro_ray.cli." + "_".join(names).replace("-", "_"))


def _parse_verb(verb, rest):
    if verb == "data":
        _verb_module([verb, rest[0]]).build_parser().parse_args(rest[1:])
    elif verb in ("train", "tune") and rest[0] in ("body", "hand"):
        _parse_job(f"{verb}_{rest[0]}", rest[1:])
    elif verb == "plan":
        from metro_ray.config.cli import parse_train

        arguments, flags = _verb_module([verb]).build_parser().parse_known_args(rest)
        parse_train(arguments.kind, flags)
    elif verb == "submit":
        arguments = _verb_module([verb]).build_parser().parse_args(rest)
        if arguments.job is not None:
            _parse_job(arguments.job, arguments.flags)
    elif verb in ("tune", "presets", "version"):
        _verb_module([verb]).run(["--help"] if rest[:1] == ["--status"] else rest)
    else:
        _verb_module([verb]).build_parser().parse_args(rest)


def _parse_script(script, rest):
    assert (ROOT / script).is_file(), f"there is no {script}"
    folder, _, name = script.rpartition("/")
    if folder == "jobs":
        _parse_job(name.removesuffix(".py"), rest)
        return
    source = (ROOT / script).read_text()
    for option in (word for word in rest if word.startswith("--")):
        assert f'add_argument("{option}"' in source, f"{script} has no {option}"


def _parse_job(job, flags):
    from metro_ray.config.cli import parse_given, parse_train
    from metro_ray.config.sweep_cli import parse_tune

    assert (ROOT / "jobs" / f"{job}.py").is_file(), f"there is no job {job}"
    task, _, kind = job.partition("_")
    if task == "train":
        parse_train(kind, flags)
    elif task == "tune":
        parse_tune(kind, flags)
    else:
        parse_given(kind, flags, task)


def _parse_ray(program, rest):
    import click
    from ray.scripts.scripts import cli as ray_cli
    from ray.serve.scripts import cli as serve_cli

    command = ray_cli if program == "ray" else serve_cli
    entry = rest[rest.index("--") + 1 :] if "--" in rest else None
    while isinstance(command, click.Group):
        name, rest = rest[0], rest[1:]
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"{program} has no command {name}"
        command = found
    command.make_context(program, list(rest), resilient_parsing=False)
    if entry is not None:
        parse(entry)
