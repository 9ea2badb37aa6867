"""A process that kft starts runs no file of the folder that the user is in."""

import pytest

from kft.demo import story
from kft.errors import ExportError, ServeError
from kft.export import saved_model

HOSTILE = "open('ran', 'w').close(); raise SystemExit('a file of the folder was run')"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with modules that are called as kft's, its libraries' and Python's own, and the user is in it."""
    for name in ("keras", "queue", "json", "serve", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(HOSTILE)
    (tmp_path / "rows.json").write_text("[1]")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_module_of_the_users_folder_does_not_stand_in_for_another(folder):
    assert saved_model._in_a_process("kft.export.child", "json.tool", folder / "rows.json") == "]"
    assert not (folder / "ran").exists()


@pytest.mark.slow
def test_neither_the_export_nor_the_demos_server_runs_the_users_files(folder):
    with pytest.raises(ExportError, match="no run is here"):
        saved_model._in_a_process("kft.export.child", "kft.export.build", folder, folder / "target")
    with pytest.raises(ServeError, match="the server ended before it served"):
        story._ask(folder / "nowhere" / "model")
    assert not (folder / "ran").exists()
