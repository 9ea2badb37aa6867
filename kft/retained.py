"""Earlier tasks of a fit: which they are, what keeps them in the run, and how well they are answered before and after.

References:
    Lopez-Paz and Ranzato, 2017, eq. 3 (backward transfer), https://arxiv.org/abs/1706.08840
    Lomonaco et al., 2021 (Avalanche: forgetting), https://arxiv.org/abs/2104.00405
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from kft import dataset, kept_heads, run_directory
from kft.data import tokenise
from kft.data.table import Table
from kft.errors import RecipeError, quoted
from kft.evaluation import kinds
from kft.evaluation.metric import scalars
from kft.kept_heads import Head
from kft.models import handles, presets
from kft.recipe import Recipe
from kft.run import Run, load
from kft.task_names import KEPT_NAME, Retain
from kft.training import devices
from kft.training.fitted import Fitted

BATCH_SIZE = 64
LONGEST = 512
"""Tokens of the blocks that texts are cut into for the preset's own language model, or as many as it has positions."""
LANGUAGE = "language"
"""What the preset's own language model is called."""


@dataclass(frozen=True)
class Earlier:
    """An earlier task of a fit.

    Attributes:
        name: What it is called.
        run: The run that answers it, or a head that such a run has kept.
        rows: Those that are scored before and after the fit; None where there are none.
        learnt_in: The run that first learnt it, where it is known.
        is_language: Whether it is the language model that the preset is without any run.
    """

    name: str
    run: Run
    rows: Table | None = None
    learnt_in: Run | None = None
    is_language: bool = False

    @cached_property
    def source(self) -> str:
        """The sha256 of the manifest of the run that first learnt it."""
        if self.is_language:
            return "0" * 64
        if self.run.kept_in is not None:
            return kept_heads.read(self.run.path).about.source
        return str(self.run.manifest[run_directory.OWN_SUM])

    @cached_property
    def head(self) -> Head:
        """Its head."""
        if self.run.kept_in is not None:
            return kept_heads.read(self.run.path)
        if not self.is_language:
            return kept_heads.of_model(Run(self.run.path).model, self.source)
        recipe = self.run.recipe
        preset = presets.find(recipe.preset)
        model = self.run.problem.build.model(preset, max_length=tokenise.LONGEST, dtype="float32", seed=recipe.seed)
        model.preprocessor.sequence_length = min(presets.max_positions(model.backbone) or LONGEST, LONGEST)
        return kept_heads.of_model(model, self.source)

    @property
    def identity(self) -> dict[str, str]:
        """What must be the same for a fit to be resumed."""
        return {"source": self.source, **({} if self.rows is None else {"rows": self.rows.fingerprint()})}

    def refuse_other(self, model: Any) -> None:
        """Refuses a model that the head cannot be put on.

        Raises:
            RunError: It did not begin with the same pretrained model.
        """
        kept_heads.refuse_other(self.head, self.name, model.backbone, model.preprocessor.tokenizer)

    def scores(self, backbone: Any, tokenizer: Any, head: Head | None = None) -> dict[str, Any]:
        """Metrics of its rows, answered by its head on a backbone.

        Args:
            backbone: A KerasHub backbone.
            tokenizer: The one that goes with it.
            head: As trained since; by default as it was.
        """
        problem, head = self.run.problem, head or self.head
        model = kept_heads.put_on(head, self.name, problem, self.run.recipe.seed, backbone, tokenizer)
        return self._scores_of(model)

    def learnt(self) -> dict[str, Any] | None:
        """Those when it was first learnt, by the model of its own run; None where that is not known."""
        return None if self.learnt_in is None else self._scores_of(Run(self.learnt_in.path).model)

    def _scores_of(self, model: Any) -> dict[str, Any]:
        assert self.rows is not None
        problem = self.run.problem
        network = cache(lambda num_texts: problem.build.network(model, num_texts))
        fitted = Fitted(problem, model, network, self.run.manifest["texts"], devices.choose("none", "float32"))
        return scalars(fitted.scores(self.rows, batch_size=BATCH_SIZE)[0])


def gather(recipe: Recipe) -> tuple[Earlier, ...]:
    """The earlier tasks of a fit: that of the run it begins with, those that this one has kept, and those of `retain`.

    Raises:
        RunError: A run is not there, or damaged.
        RecipeError: Two have the same name, or nothing answers the rows of one.
        DataError: Anything that is wrong with the rows.
    """
    before = load(recipe.preset) if handles.is_run(recipe.preset) else None
    found: list[Earlier] = []
    if before is not None:
        found.append(Earlier(_name_of(before), before, learnt_in=before))
        found += [Earlier(name, before.head(name)) for name in before.heads]
    for asked in recipe.retain:
        earlier = _asked(asked, before, recipe)
        same = next((one for one in found if one.source == earlier.source and one.rows is None), None)
        if same is not None:  # the head that the preset's run has kept may have been trained since
            found.remove(same)
            earlier = Earlier(asked.name or same.name, same.run, earlier.rows, earlier.learnt_in)
        found.append(earlier)
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(
                f"retain: two earlier tasks are called {quoted(name)}. Give one another name, with name:."
            )
    return tuple(found)


def _asked(asked: Retain, before: Run | None, recipe: Recipe) -> Earlier:
    """An earlier task as the recipe has it, with its rows."""
    run = before if asked.run is None else load(asked.run)
    if run is None:
        return _language(asked, recipe)
    readings = run.manifest.get("readings")
    task, columns = run.task.name, run.manifest["columns"]
    rows, _ = dataset.labelled(asked.data, task, run.problem.schema, columns, recipe.data_dir, readings)
    return Earlier(asked.name or _name_of(run), run, rows, learnt_in=run)


def _language(asked: Retain, recipe: Recipe) -> Earlier:
    """The preset's own language model, which needs no head but the token embedding."""
    from kft import tasks

    preset = presets.find(recipe.preset)
    if preset.causal_lm_class() is None:
        kind = preset.backbone_class.__name__
        raise RecipeError(
            f"retain: {quoted(asked.data)}: nothing answers these rows: {recipe.preset} is a {kind} without a head "
            "that predicts tokens. Give the run that learnt the task, as in {data: FILE, run: RUN}: of "
            "task pretrain for the loss of masked tokens."
        )
    task = tasks.find("pretrain", {})
    labels = {"objective": "clm", "mask_rate": Recipe.model_fields["mask_rate"].default}
    own = Recipe.of(preset=recipe.preset, task="pretrain", seed=recipe.seed)
    problem = task.restore(labels, own)
    rows, _ = dataset.labelled(asked.data, "pretrain", problem.schema, {"text": "text"}, recipe.data_dir)
    content = {"kft": "", "task": "pretrain", "columns": {"text": "text"}, "texts": ["text"], "preset": recipe.preset}
    run = Run(Path(recipe.preset), problem, {**content, "labels": labels})
    run.recipe = own
    return Earlier(asked.name or LANGUAGE, run, rows, is_language=True)


def keep(earlier: Sequence[Earlier], run_dir: Path, heads: Mapping[str, Head] | None = None) -> None:
    """Writes the heads of earlier tasks into the directory of a run.

    Args:
        earlier: The tasks.
        run_dir: The directory.
        heads: By name those that were trained since.
    """
    for one in earlier:
        head = (heads or {}).get(one.name, one.head)
        kept_heads.write(run_dir / kept_heads.FOLDER / one.name, head, one.run.recipe, one.run.labels, one.run.manifest)


def before(earlier: Sequence[Earlier], recipe: Recipe) -> dict[str, dict[str, Any]]:
    """By name the metrics of the rows of each task when it was learnt and as the fit begins."""
    scored = [one for one in earlier if one.rows is not None]
    if not scored:
        return {}
    preset = presets.find(recipe.preset)
    backbone, tokenizer = preset.backbone(), preset.tokenizer()
    found = {}
    for one in scored:
        now = one.scores(backbone, tokenizer)
        found[one.name] = {"learnt": one.learnt() or now, "before": now}
    return found


def after(
    earlier: Sequence[Earlier],
    first: Mapping[str, Mapping[str, Any]],
    model: Any,
    heads: Mapping[str, Head] | None = None,
) -> dict[str, Any]:
    """Those metrics with the ones by the model that was trained, forgetting and backward transfer.

    Forgetting is how much worse a task's headline metric is than when it was learnt; backward transfer is the same with
    the other sign. `backward_transfer` of all is their mean over the tasks that are judged by the same metric.

    Args:
        earlier: The tasks.
        first: As `before` gave them.
        model: The trained KerasHub model, with its preprocessor.
        heads: By name those that were trained since.
    """
    tasks: dict[str, Any] = {}
    for one in earlier:
        if one.name not in first:
            continue
        now = one.scores(model.backbone, model.preprocessor.tokenizer, (heads or {}).get(one.name))
        metric = kinds.of(one.run.manifest["task"], one.run.labels).headline
        gain = metric.gain(now[metric.name], first[one.name]["learnt"][metric.name])
        tasks[one.name] = {
            "metric": metric.name,
            **first[one.name],
            "after": now,
            "forgetting": -gain,
            "backward_transfer": gain,
        }
    if not tasks:
        return {}
    by_metric: dict[str, list[float]] = {}
    for task in tasks.values():
        by_metric.setdefault(task["metric"], []).append(task["backward_transfer"])
    return {"tasks": tasks, "backward_transfer": {name: sum(each) / len(each) for name, each in by_metric.items()}}


def facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What `after` gave in words, by task."""
    lines = []
    for name, task in found.get("tasks", {}).items():
        metric = task["metric"]
        learnt, begun, now = (f"{task[when][metric]:.4f}" for when in ("learnt", "before", "after"))
        lost = f"forgetting {task['forgetting']:.4f}, backward transfer {task['backward_transfer']:.4f}"
        lines.append((f"retained {name}", f"{metric} {learnt} when learnt, {begun} before, {now} after: {lost}"))
    return lines


def _name_of(run: Run) -> str:
    """The name of the directory of a run, with `-` in place of what no name of a head may have.

    >>> _name_of(Run(Path("runs/a b")))
    'a-b'
    """
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", run.path.resolve().name).lstrip("_.-")[:64]
    return name if re.fullmatch(KEPT_NAME, name) else "earlier"
