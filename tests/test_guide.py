"""The guide's cells run from top to bottom, and everything that it names exists."""

import ast
import re
import shlex
from dataclasses import fields
from pathlib import Path

import nbformat
import pytest

from helpers.__main__ import _parser
from helpers.config import CRITERIA, RECIPES, PackConfig, TrainConfig
from helpers.data.augment import TECHNIQUES
from helpers.data.sources import SOURCES
from helpers.runs.run import Run
from helpers.session.gpu import gpus_table
from tools.cells import tagged
from tools.run_notebooks import run_notebook

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "COLAB_PRODUCTION_TRAINING.md").read_text()
REFERENCE = (ROOT / "docs" / "REFERENCE.md").read_text()
PROSE = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
CELLS = re.findall(r"```python\n(.*?)\n```", TEXT, flags=re.DOTALL)
KNOBS = {**TrainConfig.knobs(), **{knob.name: knob for knob in fields(PackConfig)}}


def anchors() -> set[str]:
    """What GitHub makes of the headings: small letters, no punctuation, hyphens, a number behind repeated ones."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.*)$", PROSE, flags=re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {f"{slug}-{n}" if n else slug for slug, last in found.items() for n in range(last + 1)}


def parameters() -> dict[str, tuple[object, str]]:
    """Name -> (value, form) of every parameter in the cells."""
    found = {}
    for line in "\n".join(CELLS).splitlines():
        if match := re.match(r"([A-Z_]+) = (.*?)  # @param (.*)$", line):
            found[match[1]] = (ast.literal_eval(match[2]), match[3])
    return found


def names() -> set[str]:
    """What the cells call by a name: what they import and what they set."""
    nodes = list(ast.walk(ast.parse("\n".join(CELLS))))
    imported = {
        alias.asname or alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    return imported | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def spans() -> list[str]:
    return sorted({" ".join(span.split()) for span in re.findall(r"`([^`]+)`", PROSE)})


def sections(level: str) -> dict[str, str]:
    """Heading -> text of the guide's parts at a level."""
    parts = re.split(rf"^{level} (.*)$", PROSE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """The workspace after the guide's cells, and no others, were run in one session with tiny settings."""
    folder = tmp_path_factory.mktemp("guide")
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    for cell in cells:
        if cell.source.startswith("# @title Parameters"):
            cell.metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "guide.ipynb")
    tiny = {"img_size": 32, "epochs": 1, "t_0": 1, "batch_size": 32, "workers": 0}
    values = {"SOURCE": "sample", "SAMPLE_FACES": 200, "RECIPE": "demo", "CHANGES": tiny, "RUN": "run-1"}
    patch = pytest.MonkeyPatch()
    patch.setenv("FACE_WORKSPACE", str(folder / "workspace"))
    patch.setenv("PYTHONPATH", str(ROOT))
    try:
        # The session starts in the project's folder, as it would behind the clone of an earlier run.
        (folder / "helpers").symlink_to(ROOT / "helpers")
        for name in ("drawn_faces", "requirements.txt", "requirements-export.txt"):
            (folder / name).symlink_to(ROOT / name)
        run_notebook(folder / "guide.ipynb", values, folder / "done.ipynb", echo=False)
    finally:
        patch.undo()
    return folder / "workspace"


def test_pasting_the_guide_from_top_to_bottom_ends_with_an_exported_model(workspace):
    run = workspace / "runs" / "run-1"
    for name in ("results.json", "train.log", "metrics.json", "predictions.parquet", "model.onnx"):
        assert (run / name).stat().st_size > 0, name


def test_the_guide_holds_every_cell_of_the_notebooks_in_order_and_the_set_up_once():
    expected, last = [], []
    for path in sorted((ROOT / "notebooks").glob("0[1-9]_*.ipynb")):
        code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        last += [cell.source for cell in code if tagged(cell, "last")]
        code = [cell.source for cell in code if not tagged(cell, "last")]
        expected += code[1:] if expected else code
    assert expected + last == CELLS and "release_machine" in CELLS[-1], "it would end the session before the model is"
    assert sum("# @title Set up" in cell for cell in CELLS) == 1


def test_the_guide_is_short_and_begins_with_a_path_of_ten_lines():
    # Incident: 7,820 words, of which a student needed a third.
    assert len(TEXT.split()) < 5100
    path = next(part for part in re.split(r"^## ", TEXT, flags=re.MULTILINE) if part.startswith("Quick path"))
    assert re.findall(r"^(\d+)\. ", path, flags=re.MULTILINE) == [str(number) for number in range(1, 11)]
    assert TEXT.index("## Quick path") < TEXT.index("## Before you start")


def test_the_glossary_explains_the_words_that_are_used():
    glossary = sections("##")["Glossary"].lower()
    for word in ("augmentation", "backbone", "batch", "checkpoint", "epoch", "gap", "learning rate", "loss", "mae",
                 "mixup", "onnx", "overfitting", "split", "store"):  # fmt: skip
        assert f"**{word}" in glossary or f"{word}**" in glossary, word


def test_commands_for_colab_s_own_command_line_are_those_of_its_parser():
    """Its options as ``colab <command> --help`` of google-colab-cli 0.7.5 names them (Python 3.12 or later)."""
    knows = {"new": {"--session", "--gpu"}, "drivemount": {"--session"}, "stop": {"--session"},
             "exec": {"--session", "--timeout", "--file"}, "download": {"--session"}}  # fmt: skip
    lines = [shlex.split(line) for line in re.findall(r"^colab .*$", TEXT, flags=re.MULTILINE)]
    assert [line[1] for line in lines] == ["new", "drivemount", "exec", "download", "stop"]
    for _, command, *rest in lines:
        assert {word for word in rest if word.startswith("-")} <= knows[command], command
    (timeout,) = (line[line.index("--timeout") + 1] for line in lines if "--timeout" in line)
    assert float(timeout) > 10 * 3600, "the default of 30 seconds would end it before the first face is read"
    (book,) = (line[line.index("--file") + 1] for line in lines if "--file" in line)
    assert (ROOT / book).exists()


def test_every_link_leads_to_a_heading_or_a_file():
    for text, target in re.findall(r"\[([^\]]+)\]\(([^)]+)\)", PROSE):
        if target.startswith("#"):
            assert target[1:] in anchors(), text
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), text


def known(span: str, made: set[str]) -> bool:
    """Whether a piece of code in the prose names something that exists, and sets it to what is allowed."""
    name, assigned, value = (part.strip() for part in span.partition(" = "))
    if assigned and name in KNOBS:
        kind = type(KNOBS[name].default)
        make = TrainConfig().replace if name in TrainConfig.knobs() else PackConfig
        return bool(make(**{name: kind(value)}))
    if assigned:
        before, form = parameters()[name]
        value = ast.literal_eval(value)
        choices = ast.literal_eval(form) if form.startswith("[") else [value]
        if name == "CHANGES":
            TrainConfig().replace(**value)
        return isinstance(value, type(before)) and value in choices
    if span.startswith("python -m helpers "):
        return bool(_parser().parse_args(shlex.split(span)[3:]))
    if span.startswith("--"):
        return bool(_parser().parse_args(["train", span]))
    if span.startswith("{"):
        return bool(TrainConfig().replace(**ast.literal_eval(span)))
    things = {*KNOBS, *parameters(), *names(), *RECIPES, *TECHNIQUES, *SOURCES, *made, "auto"}
    things |= {source.handle for source in SOURCES.values()}
    choices = {choice for knob in KNOBS.values() for choice in knob.metadata.get("choices", ())}
    # A CSV's header, a cell's first line, a shell's, the file that a user makes to stop a run, and nothing in a table.
    texts = {"file, emotion, age, gender", "# @title Parameters", "!", str(Run.STOP), "-", "00_run_all"}
    return span in things | choices | texts or (ROOT / span).exists()


def test_everything_that_is_named_as_code_exists(workspace):
    made = {path.name for path in workspace.rglob("*")}
    for span in spans():
        assert known(span, made), f"the guide names `{span}`"


def test_what_does_not_exist_is_noticed():
    for span in ("batchsize", "CHANGES = {'epoch': 3}", "no.txt", "python -m helpers fly", "--no"):
        with pytest.raises((AssertionError, KeyError, ValueError, SystemExit)):
            assert known(span, set())


def test_every_answer_to_a_trouble_names_a_field_a_parameter_or_a_cell():
    troubles = sections("##")["Troubleshooting"]
    answers = re.split(r"^### (.*)$", troubles, flags=re.MULTILINE)[1:]
    answers = dict(zip(answers[::2], answers[1::2], strict=True))
    for words in ("out of memory", "slow", "refused", "not improve", "cut", "restart", "Drive", "No GPU"):
        assert any(words in title for title in answers), words
    for title, answer in answers.items():
        names = {span.partition(" = ")[0] for span in re.findall(r"`([^`]+)`", answer)}
        assert names & {*KNOBS, *parameters()} or "](#" in answer, title


def test_the_tables_hold_every_dataset_gpu_knob_technique_and_criterion():
    for source in SOURCES.values():
        assert f"{source.images:,} | {source.megabytes} MB | {source.terms}" in TEXT
    gpus = [" | ".join(cells) for cells in gpus_table().itertuples(index=False)]
    assert all(f"| {line} |" in REFERENCE for line in gpus) and "Nothing in this table was measured" in TEXT
    assert all(f"| {line.rpartition(' | ')[0]} |" in TEXT for line in gpus), "without the sources"
    assert all(f"| `{name}` |" in REFERENCE for name in (*KNOBS, *TECHNIQUES))
    assert all(f"| `{name}` |" in TEXT for name in RECIPES), "in words"
    assert all(f"| {criterion.title} |" in TEXT for criterion in CRITERIA.values())
    for word in ("before", "during", "after"):
        assert f"### Checklist: {word}" in TEXT
