"""The project's own rules: imports run downward, generated files are up to date, notebooks are clean."""

import ast
import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from nbclient.exceptions import DeadKernelError

from helpers.config import RECIPES, SAMPLE_FACES, PackConfig
from helpers.data.sources import SOURCES
from tools import build_notebooks, run_notebooks
from tools.cells import HELP, RUN_ALL, recipes_table, t4

ROOT = Path(__file__).resolve().parent.parent

LAYERS = (
    {"files"},
    {"tasks", "losses", "metrics"},
    {"config", "plots"},
    {"session"},
    {"data"},
    {"drawn_faces"},
    {"runs"},
    {"training"},
    {"evaluation"},
    {"export"},
    {"ui"},
    {"__main__"},
)
"""Rooms from the ground up; a room may import from its own and from lower layers."""

PACKAGES = ("helpers", "drawn_faces")


def _sources() -> list[Path]:
    """Every module of the packages."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def _level(parts: list[str]) -> int:
    room = parts[0] if parts[0] == "drawn_faces" else parts[1]
    return next(level for level, rooms in enumerate(LAYERS) if room in rooms)


def _imports(path: Path):
    """Modules of the packages that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            # ``from helpers import plots`` names the room in the alias
            yield from ([[node.module, a.name] for a in node.names] if node.module in PACKAGES else
                        [node.module.split(".")])  # fmt: skip
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".") for a in node.names if a.name.split(".")[0] in PACKAGES)


def test_imports_between_rooms_run_downward_only():
    upward = []
    for path in _sources():
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts == ["helpers", "__init__"]:
            continue
        for target in _imports(path):
            if target[0] == "drawn_faces" and parts[0] == "helpers":
                continue  # the sample faces are drawn on demand, see the next test
            if _level(target) > _level(parts):
                upward.append(f"{path.relative_to(ROOT)} imports {'.'.join(target)}")
    assert not upward


def test_drawn_faces_import_helpers_and_never_the_other_way_round_when_they_are_loaded():
    code = "import sys; import helpers.__main__, helpers.data.download, helpers.data.store, helpers.training.loop; "
    code += "print([name for name in sys.modules if name.startswith('drawn_faces')])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_no_module_but_the_tasks_asks_which_task_it_has():
    # Incident: eleven tests for == "age" in seven files, and a new head touched fifteen modules.
    asking = re.compile(r"""[!=]= ["'](emotion|age|gender)["']|["'](emotion|age|gender)["'] [!=]=""")
    found = [path for path in _sources() if path.parts[-1] != "tasks.py" and asking.search(path.read_text())]
    assert not found


def test_modules_do_not_import_each_other_in_circles():
    graph = {}
    for path in _sources():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        graph[name] = {".".join(target) for target in _imports(path) if target[0] != "drawn_faces"}
    done = set()

    def visit(name, above):
        assert name not in above, f"circle: {' -> '.join([*above, name])}"
        if name not in done:
            for target in graph.get(name, ()):
                visit(target, [*above, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_init_files_are_empty_and_colab_is_imported_inside_functions_only():
    for path in _sources():
        if path.name == "__init__.py":
            assert path.read_text() == "", path
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith("google") for name in names), path


def test_the_package_stays_thin():
    lines = 0
    for path in (ROOT / "helpers").rglob("*.py"):
        tree = ast.parse(path.read_text())
        prose = set()
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                prose.update(range(node.lineno, node.end_lineno + 1))
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            lines += bool(line.strip()) and not line.strip().startswith("#") and number not in prose
    assert lines <= 6650, "a feature that does not fit replaces another or waits"


def test_every_public_function_says_what_it_does():
    missing = []
    for path in _sources():
        tree = ast.parse(path.read_text())
        if path.name != "__init__.py" and not ast.get_docstring(tree):
            missing.append(str(path))
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                missing.append(f"{path}:{node.name}")
    assert not missing


def test_generated_files_are_up_to_date():
    # Incident: notebooks edited by hand and sources edited without a build drift apart unnoticed.
    assert build_notebooks.main(["--check"]) == 0


def test_check_fails_on_one_differing_byte(monkeypatch, tmp_path, capsys):
    copy = tmp_path / "project"
    shutil.copytree(ROOT / "notebooks", copy / "notebooks")
    (copy / "docs").mkdir()
    for name in ("README.md", "pyproject.toml", "COLAB_PRODUCTION_TRAINING.md", "docs/REFERENCE.md"):
        shutil.copy(ROOT / name, copy / name)
    monkeypatch.setattr(build_notebooks, "ROOT", copy)
    monkeypatch.setattr(build_notebooks, "SOURCES", copy / "notebooks" / "src")
    assert build_notebooks.main(["--check"]) == 0
    book = copy / "notebooks" / "04_train.ipynb"
    book.write_text(book.read_text().replace("Train", "train", 1))
    assert build_notebooks.main(["--check"]) == 1 and "04_train.ipynb" in capsys.readouterr().out
    assert build_notebooks.main([]) == 0 and build_notebooks.main(["--check"]) == 0


@pytest.fixture(scope="module")
def books() -> dict[str, dict]:
    return {path.name: json.loads(path.read_text()) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def test_notebooks_hold_no_outputs_and_only_metadata_that_colab_reads(books):
    # Incident: saved widget state without a "state" key makes GitHub refuse a whole notebook.
    for name, book in books.items():
        assert set(book["metadata"]) <= {"accelerator", "colab", "kernelspec", "language_info"}, name
        for cell in book["cells"]:
            assert not cell.get("outputs") and cell.get("execution_count") is None, name
            assert set(cell["metadata"]) <= {"tags", "cellView", "scrolled"}, name
        ids = [cell["id"] for cell in book["cells"]]
        assert len(ids) == len(set(ids)), name


def test_no_output_is_hidden_in_a_scroll_box(books):
    # Incident: notebook 6.5.7 put the figures of 03 and 05 into boxes of 336 pixels; seen gone in Chromium with this.
    for name, book in books.items():
        assert all(cell["metadata"]["scrolled"] is False for cell in book["cells"] if cell["cell_type"] == "code"), name


def test_the_hours_and_recipes_that_the_texts_name_are_those_of_the_code(books):
    readme = " ".join((ROOT / "README.md").read_text().split())
    first = " ".join("".join(books["00_run_all.ipynb"]["cells"][0]["source"]).split())
    for text in (readme, first):
        assert f"training takes at most about {t4()['hours']}: computed" in text and "not measured" in text
    for name in RECIPES:
        assert f"| `{name}` |" in recipes_table(), "a recipe without words is no help to a newcomer"


def test_the_first_notebook_s_text_holds_no_table_of_all_knobs_and_no_price_in_dollars(books):
    cells = [cell for cell in books["01_setup_gpu_check.ipynb"]["cells"] if cell["cell_type"] == "markdown"]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    assert "$" not in text and 0 < text.count("\n|") <= 16


def test_every_form_field_is_explained_above_it(books):
    for name, book in books.items():
        for cell in book["cells"]:
            lines = "".join(cell["source"]).splitlines()
            for before, line in pairwise(lines):
                helped = re.match(r"# @markdown \S", before)
                assert "# @param" not in line or helped, f"{name}: {line}; see tools/cells.py"


def test_links_lead_to_the_same_place_from_a_copy_on_drive(books):
    # Incident: Previous and Next were relative, which a copy on Drive cannot follow.
    for name, book in books.items():
        for cell in book["cells"]:
            forms = [line for line in cell["source"] if line.startswith("# @markdown")]
            if cell["cell_type"] == "markdown" or forms:
                for target in re.findall(r"""(?:\]\(|href=["'])([^)"']+)""", "".join(forms or cell["source"])):
                    assert target.startswith("https://"), f"{name}: {target}"


def test_the_switch_for_drawn_faces_may_be_run_twice_and_leaves_what_was_chosen(books):
    (switch,) = ("".join(cell["source"]) for cell in books["00_run_all.ipynb"]["cells"]
                 if "-sample" in "".join(cell["source"]))  # fmt: skip
    chosen = {"SOURCE": "sample", "RUN": "mine", "FACES": "faces", "RECIPE": "auto"}
    for _ in range(2):
        exec(switch, chosen)
        assert (chosen["RUN"], chosen["FACES"], chosen["RECIPE"]) == ("mine-sample", "faces-sample", "demo")
    real = {"SOURCE": "kaggle", "RUN": "mine", "FACES": "faces", "RECIPE": "auto"}
    exec(switch, real)
    assert (real["RUN"], real["FACES"], real["RECIPE"]) == ("mine", "faces", "auto")


def test_run_all_has_one_form_with_the_parameters_of_all_steps_and_no_cell_of_its_own_but_the_switch(books):
    code = {name: [c for c in book["cells"] if c["cell_type"] == "code"] for name, book in books.items()}
    mine = code.pop("00_run_all.ipynb")
    (form,) = ("".join(c["source"]) for c in mine if "parameters" in c["metadata"].get("tags", ()))
    steps = [cells for name, cells in code.items() if name[:2] in RUN_ALL]
    fields = {field for cells in steps for c in cells if "parameters" in c["metadata"].get("tags", ())
              for field in re.findall(r"^([A-Z_]+) = ", "".join(c["source"]), flags=re.MULTILINE)}  # fmt: skip
    assert set(found := re.findall(r"^([A-Z_]+) = ", form, flags=re.MULTILINE)) == fields
    assert len(found) == len(fields), "each once"
    known = {"".join(c["source"]) for cells in code.values() for c in cells}
    own = [text for c in mine if (text := "".join(c["source"])) not in known]
    assert own[0] == form and len(own) == 2 and 'SOURCE == "sample"' in own[1]
    assert "release_machine" in "".join(mine[-1]["source"]), "the machine goes when all is done, and not before"


def test_exporting_is_what_needs_onnx_and_only_then_it_is_installed(books):
    code = "import sys\nfor name in ('onnx', 'onnxruntime', 'onnxscript'): sys.modules[name] = None\n"
    for name, book in books.items():
        text = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
        if name[:2] < "06" and name[:2] != "00":
            for cell in text:
                code += "".join(f"{line}\n" for line in cell.splitlines() if re.match(r"(from|import) [a-z]", line))
        assert any("requirements-export.txt" in cell for cell in text) == (name[:2] in ("00", "06", "07")), name
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_every_notebook_has_the_same_set_up_cell_one_title_and_a_badge(books):
    setups = set()
    for name, book in books.items():
        text = ["".join(cell["source"]) for cell in book["cells"]]
        assert sum(bool(re.match(r"# ", t)) for t, c in zip(text, book["cells"], strict=True)
                   if c["cell_type"] == "markdown") == 1  # fmt: skip
        assert (
            f"colab.research.google.com/github/khoiabc2020/age-gender-emotion-detection/blob/main/notebooks/{name}"
            in (text[0])
        )
        page = f"{build_notebooks.repository()}/blob/main/notebooks/{name}"
        assert f"https://kaggle.com/kernels/welcome?src={page})" in text[0]
        assert text[1].startswith("# @title Set up") and len(text[1].splitlines()) <= 25
        setups.add(text[1])
        assert any("What you should see" in t or "What will happen" in t for t in text), name
    assert len(books) >= 6 and len(setups) == 1


FIELDS = tuple(f"{name} = " for name in HELP)


def test_cells_are_short(books):
    for name, book in books.items():
        for cell in book["cells"][2:]:
            if cell["cell_type"] == "code":
                lines = "".join(cell["source"]).splitlines()
                code = [line for line in lines if line.strip() and not line.startswith(("# @", *FIELDS))]
                # The training cell is the loop itself, to be read.
                most = 20 if any("train_step(" in line for line in code) else 10
                assert len(code) <= most, f"{name}: {code[0]}"


def test_parameters_that_repeat_a_fact_agree_with_the_config(books):
    text = json.dumps(books)
    assert f"SAMPLE_FACES = {SAMPLE_FACES}  # @param" in text
    assert json.dumps(f'DATASETS = "{", ".join(SOURCES)}"')[1:-1] in text
    for knob in ("affectnet_labels", "gender_codes"):
        words = ", ".join(f'"{name}"' for name in PackConfig.__dataclass_fields__[knob].metadata["choices"])
        assert json.dumps(f'{knob.upper()} = "{getattr(PackConfig(), knob)}"  # @param [{words}]')[1:-1] in text
    choices = ", ".join(f'"{name}"' for name in ["auto", *RECIPES])
    assert json.dumps(f"# @param [{choices}]")[1:-1] in text


def test_version_specs_are_quoted_where_a_shell_could_read_them(books):
    # Incident: ``pip install a>=1`` writes a file named ``=1`` and installs any version.
    for book in books.values():
        for cell in book["cells"]:
            assert not re.search(r"pip install [^\"'\n]*[<>]", "".join(cell["source"]))


def test_the_command_line_explains_itself_without_loading_torch():
    code = "import sys; from helpers.__main__ import _parser; _parser().format_help(); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize("end", [KeyboardInterrupt(), DeadKernelError("Kernel died")])
def test_a_demo_that_is_interrupted_ends_in_one_sentence(monkeypatch, capsys, tmp_path, end):
    # Incident: Ctrl-C ended in nbclient's own traceback, an AssertionError of its tidying up.
    def run(*_):
        try:
            raise end
        except BaseException:
            raise AssertionError  # noqa: B904 - as it happens there

    monkeypatch.setattr(run_notebooks, "run_notebook", run)
    monkeypatch.setattr(sys, "argv", ["run_notebooks"])
    monkeypatch.setenv("FACE_WORKSPACE", str(tmp_path))
    assert run_notebooks.main() == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "run make demo again" in said
