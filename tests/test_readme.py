"""The examples of the README and of docs/benchmarks.md do what they show, in real processes."""

import contextlib
import doctest
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kft import errors
from kft.datasets import registry
from kft.readers import formats
from kft.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
TASK_PAGES = [*sorted((ROOT / "docs" / "tasks").glob("*.md")), ROOT / "docs" / "slices.md"]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SECTIONS = [pytest.param("Rows in memory", marks=pytest.mark.slow), "When something is wrong"]
PORT = "8501"
TIMEOUT_S = 1800
SHIMS = {"python": 'exec "{python}" "$@"', "kft": 'exec "{python}" -m kft.cli "$@"'}


@dataclass(frozen=True)
class Block:
    """A fenced block of the README: the section it stands in, its language and its text."""

    section: str
    language: str
    text: str


def read_blocks(*sections, page=README):
    """The runnable blocks of these sections in order; of all where none is named."""
    for part in re.split(r"^##? ", page, flags=re.MULTILINE)[1:]:
        section = part.partition("\n")[0]
        for language, text in re.findall(r"^```(python|console)\n(.*?)^```", part, flags=re.MULTILINE | re.DOTALL):
            if not sections or section in sections:
                yield Block(section, language, text)


def steps(text):
    """The commands of a console block, each with the output shown below it."""
    for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = step.partition("\n")
        yield command, shown


@pytest.fixture
def shell(tmp_path):
    """Settings of a process in an empty directory, where `kft` and `python` are those of this checkout."""
    shims, work_dir = tmp_path / "bin", tmp_path / "work"
    shims.mkdir()
    work_dir.mkdir()
    for name, line in SHIMS.items():
        shim = shims / name
        shim.write_text("#!/bin/sh\n" + line.format(python=sys.executable) + "\n", encoding="utf-8")
        shim.chmod(0o755)
    paths = {"PATH": f"{shims}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    # Some libraries set the level of TensorFlow's log for the processes that come after, which a user has not.
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return {"cwd": work_dir, "env": {**inherited, **paths, "PYTHONUNBUFFERED": "1"}, "text": True}


@pytest.fixture
def port():
    """A port that nothing listens on, in place of the README's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def check_shown(shown, printed):
    """Compares as a doctest does; `...` stands for anything, and nothing shown is nothing claimed."""
    assert not shown or doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS), printed


def run_python(text, shell):
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, timeout=TIMEOUT_S, **shell)
    assert done.returncode == 0, done.stderr


def run_command(command, shown, shell):
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=TIMEOUT_S, **shell)
    is_refusal = shown.startswith("error:")
    assert (done.returncode != 0) == is_refusal, (command, done.returncode, done.stderr)
    check_shown(shown, done.stderr if is_refusal else done.stdout)


@contextlib.contextmanager
def background(command, shown, shell):
    """A command that goes on running, once its first line has come."""
    with subprocess.Popen(["sh", "-c", f"exec {command}"], stdout=subprocess.PIPE, **shell) as process:
        try:
            check_shown(shown, process.stdout.readline())
            yield
        finally:
            process.terminate()


def run(blocks, shell, port):
    with contextlib.ExitStack() as running:
        for block in blocks:
            text = block.text.replace(PORT, port)
            if block.language == "python":
                run_python(text, shell)
                continue
            for command, shown in steps(text):
                if command.endswith(" &"):
                    running.enter_context(background(command.removesuffix(" &"), shown, shell))
                else:
                    run_command(command, shown, shell)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_that_stands_alone_runs(section, shell, port):
    blocks = list(read_blocks(section))
    assert blocks
    run(blocks, shell, port)


@pytest.mark.slow
def test_every_example_runs_from_top_to_bottom(shell, port):
    blocks = list(read_blocks())
    assert {block.language for block in blocks} == {"python", "console"}
    run(blocks, shell, port)
    assert (shell["cwd"] / "saved_models" / "topics" / "2").is_dir()
    assert len((shell["cwd"] / "answers.jsonl").read_text(encoding="utf-8").splitlines()) == 645


@pytest.mark.slow
def test_the_benchmark_examples_run(shell, port, tiny_preset):
    """On a few rows, with the tiny model in place of the one they name."""
    files = {
        "SST-2": "sentence\tlabel\n" + "".join(f"the {word} is late\t{i % 2}\n" for i, word in enumerate("abcdefgh")),
        "RTE": "index\tsentence1\tsentence2\tlabel\n"
        + "".join(f"{i}\tthe {word}\tis late\t{'not_' * (i % 2)}entailment\n" for i, word in enumerate("abcdefgh")),
    }
    for folder, content in files.items():
        (shell["cwd"] / "data" / "glue" / folder).mkdir(parents=True)
        for name in ("train.tsv", "dev.tsv"):
            (shell["cwd"] / "data" / "glue" / folder / name).write_text(content, encoding="utf-8")
    blocks = [replace(block, text=block.text.replace("minilm", tiny_preset)) for block in read_blocks(page=BENCHMARKS)]
    assert {block.language for block in blocks} == {"python", "console"}
    run(blocks, shell, port)


@pytest.mark.slow
@pytest.mark.parametrize("path", TASK_PAGES, ids=lambda path: path.stem)
def test_the_examples_of_a_page_run(path, shell, port):
    blocks = list(read_blocks(page=path.read_text(encoding="utf-8")))
    assert {block.language for block in blocks} == {"python", "console"}
    run(blocks, shell, port)


def test_the_table_of_benchmarks_is_the_one_of_the_code():
    listed = {
        name: (task, metrics, files)
        for name, task, metrics, files in re.findall(
            r"^\| `(\S+?)` \| (\w+) \| (.*?) \| (.*) \|$", BENCHMARKS, flags=re.MULTILINE
        )
    }
    assert list(listed) == list(registry.BENCHMARKS)
    for name, entry in registry.BENCHMARKS.items():
        task, metrics, files = listed[name]
        assert (task, metrics) == (entry.task, ", ".join(entry.metrics))
        for file in {file.path for layout in entry.layouts for file in layout.values()}:
            path = file.removesuffix(".gz")
            named = [path.replace("{variant}", variant) for variant in ("<language>", "<treebank>", "en")]
            assert any(f"`{path}`" in files for path in named)


def test_the_exit_codes_are_those_of_the_errors():
    listed = {name: int(code) for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", README, flags=re.MULTILINE)}
    kinds = {
        kind.__name__: kind.exit_code for kind in errors.KftError.__subclasses__() if kind.__module__ == "kft.errors"
    }
    assert listed == {name: code for name, code in kinds.items() if name != "Interrupted"}
    assert errors.KftError.exit_code == 1
    assert errors.Interrupted(15, "stopped").exit_code == 128 + 15


def test_the_knobs_and_file_endings_exist():
    section = re.search(r"^## Knobs\n(.*?)^## ", README, flags=re.MULTILINE | re.DOTALL).group(1)
    named = [
        name for row in re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE) for name in re.findall(r"\w+", row)
    ]
    assert named and set(named) <= set(Recipe.model_fields)
    files = re.search(r"^\| files \| (.*?) \|", README, flags=re.MULTILINE).group(1)
    assert set(re.findall(r"`(\.\w+)`", files)) == {*formats.SUFFIXES, ".gz"}


def test_every_linked_file_exists():
    links = [link for link in re.findall(r"\]\((.*?)\)", README) if "://" not in link]
    assert links and not [link for link in links if not (ROOT / link).exists()]


def test_the_architecture_has_a_line_for_every_module():
    listed = re.findall(r"^\| `([\w/]+\.py)` \|", ARCHITECTURE, flags=re.MULTILINE)
    modules = [
        path.relative_to(ROOT / package).as_posix()
        for package in ("kft", "tuning")
        for path in (ROOT / package).rglob("*.py")
    ]
    assert sorted(n for n in listed if "__init__" not in n) == sorted(n for n in modules if "__init__" not in n)
