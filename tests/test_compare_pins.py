"""A list of what Colab has installed is compared with what the project needs and was tested with."""

from pathlib import Path

import pytest

from tools import compare_pins
from tools.compare_pins import main, needed, read_pins

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def as_tested(tmp_path):
    """A list with everything that requirements.txt needs, in the versions of constraints.txt."""
    pins = read_pins(ROOT / "constraints.txt", "3.13.0")
    names = [wanted.name for wanted in needed(ROOT / "requirements.txt")]
    path = tmp_path / "freeze.txt"

    def write(**changes: str | None) -> Path:
        versions = {name: str(pins[name]) for name in names} | changes
        lines = [f"{name}=={version}" for name, version in versions.items() if version]
        path.write_text("\n".join(["# a comment", "jax @ https://example.org/jax.whl", *lines]) + "\n")
        return path

    return write


def test_the_tested_versions_break_nothing_and_differ_in_nothing(as_tested, capsys):
    assert main([str(as_tested())]) == 0
    assert "0 would break, 0 in another version" in capsys.readouterr().out


def test_what_only_exporting_needs_may_be_missing_and_is_looked_at_where_it_is_there(as_tested, capsys):
    assert main([str(as_tested(onnx="1.0.0"))]) == 1
    assert "would break: onnx 1.0.0 is there, but onnx>=1.19 is needed" in capsys.readouterr().out


def test_a_library_that_is_missing_too_old_or_too_new_would_break(as_tested, capsys):
    changes = {"timm": "2.0.0", "numpy": "1.26.4", "kagglehub": None}
    assert main([str(as_tested(**changes))]) == 1
    said = capsys.readouterr().out
    for words in ("timm 2.0.0 is there, but", "numpy 1.26.4 is there, but", "kagglehub is missing, but"):
        assert f"would break: {words}" in said
    assert said.count("would break:") == 3


def test_a_version_in_range_that_was_not_tested_is_told_and_does_not_break(as_tested, capsys):
    assert main([str(as_tested(torch="2.99.0+cu128", pandas="2.2.0"))]) == 0
    said = capsys.readouterr().out
    assert "torch 2.99.0 is newer than" in said and "pandas 2.2.0 is older than" in said


@pytest.mark.parametrize("content", [None, "", "not a list\n"])
def test_a_list_that_is_none_is_refused_in_one_sentence(tmp_path, content, capsys):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_text(content)
    assert main([str(path)]) == 2
    assert "expected" in (said := capsys.readouterr().err) and said.count("\n") == 1


def test_the_lines_of_constraints_follow_the_version_of_python():
    new, old = (read_pins(ROOT / "constraints.txt", python)["numpy"] for python in ("3.14.0", "3.13.0"))
    assert new > old and compare_pins.BROUGHT == "requirements-export.txt"
