"""What the commands share: flags made from the Recipe, help in sections, refusals as exit codes."""

from __future__ import annotations

import functools
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kft import documents, errors
from kft import knobs as declared
from kft.recipe import Recipe

EXIT_CODES = """\b
Exit codes:
  0  done                      5  run directory missing, occupied or damaged
  1  internal error            6  training went wrong (loss, memory, disk)
  2  wrong flag, knob, recipe  7  export failed one of its gates
  3  rows that cannot be used  8  devices this machine does not have
  4  preset not usable         9  serving
  128 + n  stopped by signal n, after a checkpoint
"""
SEARCH_OPTIONS = ("space", "trials", "search", "objective")
"""Those that `kft tune` has beside the knobs."""
RECIPE_FILES = (".yaml", ".yml")
TRACEBACK = "KFT_TRACEBACK"
"""The environment variable that shows the traceback of an internal error."""
train_argument = click.argument("train", required=False)
recipe_option = click.option("--recipe", metavar="FILE", help="Recipe file (YAML or JSON) that the flags add to.")
quiet_option = click.option("--quiet", is_flag=True, help="Nothing on standard error but errors.")


class Commands(click.Group):
    """A group whose unknown commands get a suggestion, and whose refusals become exit codes."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Click's lookup, with the nearest command for one that does not exist."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            near = errors.did_you_mean(args[0], self.commands)
            ctx.fail(f"no command {args[0]!r}.{near} Expected one of: {', '.join(self.commands)}.")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; a KftError is one line on standard error and its exit code."""
        try:
            return super().invoke(ctx)
        except errors.KftError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if os.environ.get(TRACEBACK):
                raise
            click.echo(f"internal error: {_described(error)}. For the traceback set {TRACEBACK}=1.", err=True)
            ctx.exit(1)


class InSections(click.Command):
    """A command whose help lists the knobs of the Recipe by group, after its own options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes a section for the command's own options, and one for each group of knobs."""
        of_knobs = {name: group for group, names in declared.by_group(Recipe.model_fields).items() for name in names}
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                own = "Search" if parameter.name in SEARCH_OPTIONS else "Options"
                sections.setdefault(of_knobs.get(parameter.name or "", own), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _described(error: Exception) -> str:
    """An unforeseen exception in one line: its kind, what it says, and where it arose."""
    innermost = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(innermost.filename).name}, line {innermost.lineno}"
    return errors.cut(errors.printable(f"{type(error).__name__}: {error}".strip(": ")), 300) + f" ({place})"


def knobs(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds a flag for each field of the Recipe and passes those that were given as the dict `knobs`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_knobs(**arguments: Any) -> None:
            given = {n: arguments.pop(n) for n in list(arguments) if n in Recipe.model_fields and n != "train"}
            values = {name: _parsed(value) for name, value in given.items() if value is not None}
            command(**arguments, knobs=values)

        for name, field in reversed(Recipe.model_fields.items()):
            if name in ("train", *left_out):
                continue
            flag = "--" + name.replace("_", "-")
            used_by = declared.use_of(field).words()
            text = f"{field.description}{used_by and f'  [only: {used_by}]'}  [default: {declared.default_text(field)}]"
            is_switch = field.annotation is bool
            flag = f"{flag}/--no-{flag[2:]}" if is_switch else flag
            option = click.option(flag, name, default=None, help=text, metavar=None if is_switch else "VALUE")
            with_knobs = option(with_knobs)
        return with_knobs

    return decorate


def _parsed(value: Any) -> Any:
    """A flag's text; one in braces or brackets is YAML, as in `--class-weights '{spam: 2, ham: 1}'`."""
    if not (isinstance(value, str) and value.startswith(("{", "[{"))):
        return value
    return documents.parse_yaml(value, f"found {errors.quoted(value)}", errors.RecipeError)


def with_recipe(train: str | None, recipe: str | None, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The training rows and all knobs: the recipe file's, with the flags on top."""
    if train and train.endswith(RECIPE_FILES):
        train, recipe = None, train
    base = Recipe.read(recipe) if recipe else Recipe.of()
    asked = {name: getattr(base, name) for name in base.model_fields_set}
    asked.update(given)
    rows = train or asked.get("train")
    asked.pop("train", None)
    Recipe.of(**asked)  # refuses a wrong value before TensorFlow is loaded
    if not rows:
        raise errors.RecipeError("no training rows: give a file, as in `kft fit train.csv`, or a recipe with `train:`.")
    return rows, asked
