"""The wheel holds every file of the packages, and the lock is whole, hashed and names no place."""

import re
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from build import ProjectBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import kft

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("kft", "serve", "tuning")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The project's wheel, built by the installed hatchling, open for reading."""
    with zipfile.ZipFile(ProjectBuilder(ROOT).build("wheel", tmp_path_factory.mktemp("dist"))) as archive:
        yield archive


def locked():
    """Every requirement of the lock with its hashes."""
    entries = re.sub(r" \\\n\s+", " ", re.sub(r"^\s*#.*\n", "", LOCK, flags=re.MULTILINE)).splitlines()
    for entry in entries:
        requirement, *hashes = entry.split(" --hash=")
        yield Requirement(requirement), hashes


def declared(*extras):
    """The requirements of pyproject.toml and of some of its extras."""
    optional = PROJECT["optional-dependencies"]
    return [Requirement(r) for group in [PROJECT["dependencies"], *map(optional.get, extras)] for r in group]


def test_wheel_holds_every_file_of_the_packages(wheel):
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "models.config"
    }
    data = {"kft/demo/messages.jsonl", "kft/evaluation/report.html.j2", "kft/py.typed", "serve/compose.yaml"}
    assert data <= expected
    assert {name for name in wheel.namelist() if name.startswith(tuple(f"{p}/" for p in PACKAGES))} == expected


def test_wheel_names_its_version_licence_and_command(wheel):
    info = f"kft-{kft.__version__}.dist-info"
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode("utf-8"))
    assert metadata["Version"] == kft.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert "kft = kft.cli:main" in wheel.read(f"{info}/entry_points.txt").decode("utf-8")


def test_lock_pins_every_declared_dependency_within_its_bounds():
    pins = {canonicalize_name(r.name): next(iter(r.specifier)).version for r, _ in locked()}
    for requirement in declared("dev", "jax", "minilm"):
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_every_locked_package_has_one_version_and_sha256_hashes():
    entries = list(locked())
    assert len({canonicalize_name(r.name) for r, _ in entries}) == len(entries) > 50
    for requirement, hashes in entries:
        assert [s.operator for s in requirement.specifier] == ["=="], requirement
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", h) for h in hashes), requirement


def test_lock_leaves_out_torch_and_names_no_place():
    names = {canonicalize_name(r.name) for r, _ in locked()}
    assert names.isdisjoint({"torch", "sentence-transformers", "transformers"})
    assert "://" not in LOCK
    assert not [line for line in LOCK.splitlines() if re.match(r"\s*-(?!-hash=)", line)]
