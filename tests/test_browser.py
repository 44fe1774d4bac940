"""The notebooks in a real browser: what is typed, clicked and seen, and what is there after a stop and a reload.

``make browser`` runs them in both front ends. Pictures of the pages lie in SCREENSHOTS, or in workspace/screenshots.
"""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from helpers.evaluation.failures import judged
from helpers.evaluation.predictions import write_predictions
from helpers.runs.run import Run
from helpers.tasks import EMOTION
from helpers.ui.failures import PAGE

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which(os.environ.get("CHROMIUM") or "chromium")
SHOTS = Path(os.environ.get("SCREENSHOTS", ROOT / "workspace" / "screenshots")).absolute()
NOTEBOOK, LAB = "notebook", "jupyterlab"
PYTHONS = {NOTEBOOK: ROOT / ".venv-colab" / "bin" / "python", LAB: ROOT / ".venv-lab" / "bin" / "python"}
"""Front end -> the Python whose environment has it: notebook 6 with ipywidgets 7, JupyterLab 4 with ipywidgets 8."""

OPTIONS = {
    NOTEBOOK: ["--NotebookApp.token=", "--NotebookApp.password="],
    LAB: ["--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"],
}
PATIENCE = 10 * 60
"""Seconds that anything may take here on a busy core."""


def missing(front_end: str) -> str:
    """Why a front end cannot be tried here; nothing where it can."""
    if not CHROMIUM:
        return "there is no Chromium; Debian's package is chromium"
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed; make browser does"
    python = PYTHONS[front_end]
    if python.exists() and not subprocess.run([python, "-c", f"import {front_end}"], capture_output=True).returncode:
        return ""
    return f"{python} has no {front_end}; make browser installs it"


class Page:
    """A page with a notebook in a front end; each cell is called by a piece of its code."""

    def __init__(self, page, address: str, sources: list[str], shots: str):
        self.page, self._address, self._sources, self._shots = page, address, sources, shots
        self.lab, self._drawn = "/lab/" in address, list[str]()

    def load(self, at_work: bool = False) -> None:
        """Open the notebook, or load the page again while its kernel is at work, which then cannot tell its state."""
        self.page.goto(self._address, wait_until="commit")
        ready = "window.Jupyter?.notebook?.kernel?.widget_manager && Jupyter.notebook.kernel.is_connected()"
        if self.lab:
            kernel = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?"
            ready = f"{kernel}.connectionStatus === 'connected'" if at_work else f"{kernel}.status === 'idle'"
        self.page.wait_for_function(ready, timeout=1000 * PATIENCE)

    def _do(self, lab: str, notebook: str = "") -> None:
        """Do something with the open notebook, and wait for it."""
        lab = f"const book = jupyterapp.shell.currentWidget; {lab}"
        self.page.evaluate(f"async () => {{ {lab if self.lab else notebook} }}")

    def _at(self, code: str) -> int:
        return next(number for number, source in enumerate(self._sources) if code in source)

    def cell(self, code: str):
        """The first cell with that piece of code."""
        return self.page.locator(".jp-Notebook .jp-Cell, #notebook-container > .cell").nth(self._at(code))

    def run(self, *codes: str) -> None:
        """Run cells in this order without waiting for them; what they showed before is gone at once."""
        for at in map(self._at, codes):
            self._do(
                f"book.content.activeCellIndex = {at}; book.content.activeCell.model.outputs.clear();"
                "void jupyterapp.commands.execute('notebook:run-cell')",
                f"Jupyter.notebook.execute_cells([{at}])",
            )

    def stop(self) -> None:
        self._do("await book.sessionContext.session.kernel.interrupt()", "Jupyter.notebook.kernel.interrupt()")

    def save(self) -> None:
        self._do("await book.context.save()", "await Jupyter.notebook.save_notebook()")

    def shown(self, code: str) -> str:
        """The text below a cell."""
        return "\n".join(self.cell(code).locator(".output_area, .jp-OutputArea-output").all_text_contents())

    def pictures(self, code: str, kind: str = "") -> list[str]:
        """The addresses of the pictures below a cell, another picture has another one; ``blob:`` are a widget's."""
        loaded = "images => images.filter(image => image.naturalWidth > 50).map(image => image.src)"
        return [address for address in self.cell(code).locator("img").evaluate_all(loaded) if address.startswith(kind)]

    def wait(self, code: str, condition, shot: str) -> None:
        """Wait until something holds, and take a picture of the page with what the cell shows, in any case."""
        end = time.monotonic() + PATIENCE
        while not (held := condition()) and time.monotonic() < end:
            self.page.wait_for_timeout(200)
        where = self._shoot(code, shot)
        assert held, f"It shows {self.shown(code)[:1000]!r}; see {where}"

    def wait_drawn(self, code: str, text: str, shot: str) -> None:
        """Wait until a cell's widget shows a text, and another picture than when this was called last."""
        before = self._drawn
        self.wait(code, lambda: self.pictures(code, "blob:") not in ([], before) and text in self.shown(code), shot)
        self._drawn = self.pictures(code, "blob:")

    def _shoot(self, code: str, shot: str) -> Path:
        area = self.cell(code).locator(".output_wrapper, .jp-Cell-outputWrapper").first
        area.evaluate("area => area.scrollIntoView({block: 'start'})")
        path = SHOTS / self._shots / f"{shot}.png"
        self.page.screenshot(path=path)
        return path

    def shoot_dark(self, code: str, shot: str) -> None:
        """Take a picture in JupyterLab's dark theme; notebook 6 has none."""
        if self.lab:
            change = "await jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab %s'})"
            self._do(change % "Dark")
            self.page.wait_for_selector("#jupyterlab-splash", state="detached")  # which lies upon everything
            self._shoot(code, shot)
            self._do(change % "Light")

    def type_in(self, label: str, value: object) -> None:
        """Type into a box of the panel."""
        name = self.page.locator(".widget-label", has_text=re.compile(f"^{label}$"))
        box = self.page.locator(".widget-hbox, .widget-inline-hbox").filter(has=name).locator("input").first
        box.fill(str(value))
        box.press("Enter")
        box.blur()


def wait_for(server: subprocess.Popen, port: int, log: Path) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < end:
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"The server did not start:\n{log.read_text()}")


@pytest.fixture(scope="module")
def evaluated(store, trained, tmp_path_factory):
    """A run of two epochs and its predictions."""
    run = Run.open(shutil.copytree(trained.folder, tmp_path_factory.mktemp("evaluated") / "tiny"))
    return run, write_predictions(run, store)


@pytest.fixture(scope="module", params=PYTHONS)
def opened(request, store, evaluated, tmp_path_factory):
    """Opens a notebook, with parameters set, in each front end."""
    if why := missing(request.param):
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp(request.param)
    for name in ("helpers", "drawn_faces", "requirements.txt"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(store.folder, folder / "workspace" / "faces" / "faces")
    shutil.copytree(evaluated[0].folder, folder / "workspace" / "runs" / "tiny")
    settings = folder / "jupyter" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)  # JupyterLab would ask in a corner whether it may fetch news
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    (SHOTS / request.param).mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1", free.getsockname()[1]
    own = {"FACE_WORKSPACE": "workspace", "JUPYTER_CONFIG_DIR": "jupyter", "JUPYTER_RUNTIME_DIR": "jupyter"}
    environment = os.environ | {name: str(folder / path) for name, path in own.items()}
    command = [PYTHONS[request.param], "-m", request.param, *OPTIONS[request.param], "--no-browser", "--allow-root"]
    command += ["--port", str(address[1])]
    with open(log := folder / "server.log", "w") as out:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
    try:
        wait_for(server, address[1], log)
        with sync_playwright() as playwright:
            # Without the rule a page waits for what it would fetch from elsewhere.
            arguments = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)

            def open_notebook(name: str, **parameters) -> Page:
                book = json.loads((ROOT / "notebooks" / name).read_text())
                sources = ["".join(cell["source"]) if cell["cell_type"] == "code" else "" for cell in book["cells"]]
                at = next(number for number, source in enumerate(sources) if source.startswith(PARAMETERS))
                sources[at] += "".join(f"\n{parameter} = {value!r}" for parameter, value in parameters.items())
                book["cells"][at]["source"] = sources[at]
                (folder / name).write_text(json.dumps(book))
                for context in chromium.contexts:  # pages of before
                    context.close()
                page = chromium.new_page(viewport={"width": 1300, "height": 1500})
                page.set_default_timeout(1000 * PATIENCE)
                page.on("dialog", lambda dialog: dialog.accept())
                # In a workspace of its own JupyterLab opens no notebook of before, whose cells would count.
                below = f"lab/workspaces/{Path(name).stem}/tree" if request.param == LAB else "notebooks"
                shown = Page(page, f"http://{address[0]}:{address[1]}/{below}/{name}", sources, request.param)
                shown.load()
                return shown

            yield open_notebook
            chromium.close()
    finally:
        server.terminate()
        server.wait(60)


SET_UP, PARAMETERS, STORE = "# @title Set up", "# @title Parameters", "FaceStore.open"
PANEL, ESTIMATE, TRAIN = "ConfigPanel(", "estimate(panel", "with training_session("


def test_the_panel_trains_what_it_says_and_training_is_seen_after_a_stop_and_a_reload(opened):
    page = opened("04_train.ipynb", RECIPE="demo", CHANGES={"img_size": 32, "batch_size": 16, "workers": 0})
    page.run(SET_UP, PARAMETERS, STORE, PANEL)
    page.wait(PANEL, lambda: "Will train" in page.shown(PANEL), "04-01-panel")
    page.type_in("Learning rate", 5)
    page.type_in("Epochs", 400)
    page.wait(PANEL, lambda: "epochs 400" in page.shown(PANEL), "04-02-refused")
    assert page.shown(PANEL).count("Not used") == 1 and "'lr' is 5.0" in page.shown(PANEL)
    page.page.get_by_role("button", name="Estimate time and memory").click()
    page.wait(PANEL, lambda: "400 epochs will take" in page.shown(PANEL), "04-03-estimate")
    page.type_in("Epochs", 300)  # more than anyone waits for here: only a stop ends it
    page.wait(PANEL, lambda: "Out of date" in page.shown(PANEL), "04-04-out-of-date")
    page.page.get_by_role("button", name="Find a learning rate").click()
    page.wait(PANEL, lambda: page.pictures(PANEL), "04-05-finder")
    page.shoot_dark(PANEL, "04-06-dark")
    page.run(PANEL, ESTIMATE, TRAIN)
    page.wait(TRAIN, lambda: len(page.pictures(TRAIN)) == 2, "04-07-training")
    assert "epochs 300" in page.shown(PANEL) and "300 epochs will take" in page.shown(ESTIMATE)
    first = page.pictures(TRAIN)
    page.wait(TRAIN, lambda: first[0] not in page.pictures(TRAIN), "04-08-curves-have-grown")
    page.stop()
    page.wait(TRAIN, lambda: "Not complete" in page.shown(TRAIN), "04-09-stopped")
    page.shoot_dark(TRAIN, "04-10-dark")
    page.run(TRAIN)
    page.wait(TRAIN, lambda: "go on at step" in page.shown(TRAIN) and len(page.pictures(TRAIN)) == 2, "04-11-run-again")
    page.save()
    page.load(at_work=True)
    page.wait(TRAIN, lambda: len(page.pictures(TRAIN)) == 2, "04-12-loaded-again")
    assert "Loading widget" not in page.shown(ESTIMATE) + page.shown(TRAIN) and "%|" not in page.shown(TRAIN)
    # JupyterLab asks the kernel for the panel, which answers when its work is done.
    assert page.lab or page.shown(PANEL).strip().startswith("Will train run-1 with backbone")
    page.stop()
    page.run(PANEL, TRAIN)
    page.wait(TRAIN, lambda: len(page.pictures(TRAIN)) == 2, "04-13-shown-again")
    assert page.shown(TRAIN).count("go on at step") == 2
    page.stop()
    page.wait(TRAIN, lambda: "Not complete" in page.shown(TRAIN), "04-14-stopped-again")
    boxes = page.cell(PANEL).locator("input")
    page.wait(PANEL, lambda: boxes.count() and "This run is there" in page.shown(PANEL), "04-15-panel")
    assert boxes.first.is_disabled()


def test_failures_are_chosen_by_truth_and_answer_and_paged_through(opened, evaluated):
    rows = judged(evaluated[1], EMOTION)
    wrong = rows[rows["wrong"]]
    of_truth, of_pair = rows["truth"].value_counts(), wrong[["truth", "said"]].value_counts()
    truth, said = next(pair for pair in of_pair.index if of_pair[pair] < of_truth[pair[0]])
    assert len(wrong) > PAGE, "else there is nothing to page through"
    browser, page = "FailureBrowser(", opened("05_evaluate.ipynb", RUN="tiny")
    boxes, number = page.cell(browser).locator("select"), page.cell(browser).locator("input")
    page.run(SET_UP, PARAMETERS, STORE, "write_predictions(run", browser)
    page.wait_drawn(browser, f"{len(wrong)} faces that it read wrong", "05-1-failures")
    number.fill("2")
    number.press("Enter")
    page.wait_drawn(browser, f"{len(wrong)} faces that it read wrong", "05-2-second-page")
    boxes.nth(0).select_option(truth)
    page.wait_drawn(browser, f"{of_truth[truth]} faces", "05-3-truth")
    assert number.input_value() == "1"
    boxes.nth(1).select_option(said)
    page.wait_drawn(browser, f"{of_pair[truth, said]} faces", "05-4-answered")
    page.shoot_dark(browser, "05-5-dark")


def test_another_technique_or_strength_is_drawn_at_once(opened):
    tryout, page = "TryOut(", opened("03_preview_augmentation.ipynb")
    strength = page.cell(tryout).locator(".widget-readout")
    page.run(SET_UP, PARAMETERS, STORE, tryout)
    page.wait_drawn(tryout, "", "03-1-try-out")
    page.cell(tryout).locator("select").select_option("Gaussian noise")
    page.wait_drawn(tryout, "", "03-2-technique")
    strength.fill("2")
    strength.press("Enter")
    page.wait_drawn(tryout, "", "03-3-strength")
    page.shoot_dark(tryout, "03-4-dark")
