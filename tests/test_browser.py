"""Notebook 04 in a real browser: the panel, a bad value, the estimate, training, a stop, run again, a reload.

``make browser`` runs it in both front ends. The pictures of the page lie in ``browser/`` of the folder that pytest
keeps, or of BROWSER_SHOTS.
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

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = {
    "notebook": ["--NotebookApp.token=", "--NotebookApp.password="],
    "jupyterlab": [
        "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly",
    ],
}  # fmt: skip
PYTHONS = {
    "notebook": Path(os.environ.get("NOTEBOOK_PYTHON", ROOT / ".venv-colab" / "bin" / "python")),
    "jupyterlab": Path(os.environ.get("LAB_PYTHON", ROOT / ".venv-lab" / "bin" / "python")),
}
"""Front end -> the Python whose environment has it: notebook 6 with ipywidgets 7, JupyterLab 4 with ipywidgets 8."""

PATIENCE = 5 * 60
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


class Browser:
    """A page with notebook 04 in a front end, its cells known by what stands in them."""

    def __init__(self, page, address: str, lab: bool, sources: list[str], shots: Path):
        self.page, self._address, self._lab, self._sources, self._shots = page, address, lab, sources, shots

    def load(self) -> None:
        """Open the notebook, or load the page again."""
        self.page.goto(self._address, wait_until="commit")
        book = "window.jupyterapp?.shell.currentWidget"
        ready = f"{book}?.content?.widgets?.length > 5 && {book}.sessionContext.session?.kernel"
        if not self._lab:
            ready = "window.Jupyter?.notebook?.kernel?.is_connected()"
        self.page.wait_for_function(ready, timeout=1000 * PATIENCE)
        time.sleep(3)

    def _book(self, lab: str, notebook: str):
        return self.page.evaluate(
            f"window.jupyterapp.shell.currentWidget.{lab}" if self._lab else f"Jupyter.notebook.{notebook}"
        )

    def cell(self, text: str) -> int:
        return next(number for number, source in enumerate(self._sources) if text in source)

    def run(self, text: str) -> None:
        """Run the cell that holds a text."""
        at = self.cell(text)
        self._book(f"content.activeCellIndex = {at}", f"execute_cells([{at}])")
        if self._lab:
            self.page.evaluate("void window.jupyterapp.commands.execute('notebook:run-cell')")
        time.sleep(0.3)

    def stop(self) -> None:
        self._book("sessionContext.session.kernel.interrupt()", "kernel.interrupt()")

    def save(self) -> None:
        self._book("context.save()", "save_checkpoint()")

    def shown(self, text: str, what: str = "map(part => part.textContent).join('\\n')"):
        """The outputs of the cell that holds a text."""
        at, areas = self.cell(text), "querySelectorAll('.output_area, .jp-OutputArea-output')"
        lab, notebook = f"content.widgets[{at}].node", f"get_cell({at}).element[0]"
        return self._book(f"content.widgets[{at}] && [...window.jupyterapp.shell.currentWidget.{lab}.{areas}].{what}",
                          f"get_cell({at}) && [...Jupyter.notebook.{notebook}.{areas}].{what}")  # fmt: skip

    def pictures(self, text: str) -> int:
        return self.shown(text, "filter(part => part.querySelector('img')?.naturalWidth > 50).length")

    def wait(self, condition, shot: str) -> None:
        """Wait until something holds, then take a picture of the page."""
        end = time.monotonic() + PATIENCE
        while not (held := condition()) and time.monotonic() < end:
            time.sleep(0.5)
        self.page.screenshot(path=self._shots / f"{shot}.png")
        assert held, f"see {self._shots / f'{shot}.png'}"

    def type_in(self, label: str, value: object) -> None:
        """Type into a box of the panel."""
        name = self.page.locator(".widget-label", has_text=re.compile(f"^{label}$"))
        box = self.page.locator(".widget-hbox, .widget-inline-hbox").filter(has=name).locator("input").first
        box.fill(str(value))
        box.press("Enter")
        box.blur()


@pytest.fixture(params=PYTHONS)
def browser(request, store, tmp_path):
    """Notebook 04 in each front end, on a few drawn faces."""
    if why := missing(request.param):
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    book = json.loads((ROOT / "notebooks" / "04_train.ipynb").read_text())
    sources = ["".join(cell["source"]) if cell["cell_type"] == "code" else "" for cell in book["cells"]]
    tiny = {"img_size": 32, "batch_size": 16, "workers": 0}
    values = {'RECIPE = "auto"': 'RECIPE = "demo"', "CHANGES = {}": f"CHANGES = {tiny}"}
    for number, cell in enumerate(book["cells"]):
        if sources[number].startswith("# @title Parameters"):
            for before, after in values.items():
                cell["source"] = sources[number] = sources[number].replace(before, after)
    for name in ("helpers", "drawn_faces", "requirements.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "04.ipynb").write_text(json.dumps(book))
    shutil.copytree(store.folder, tmp_path / "workspace" / "faces" / "faces")
    shots = Path(os.environ.get("BROWSER_SHOTS", tmp_path)) / "browser" / request.param
    shots.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHONS[request.param], "-m", request.param, *OPTIONS[request.param], "--no-browser", "--allow-root"]
    lab, environment = request.param == "jupyterlab", os.environ | {"FACE_WORKSPACE": str(tmp_path / "workspace")}
    with open(tmp_path / "server.log", "w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    try:
        for _ in range(PATIENCE):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(1)
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = chromium.new_page(viewport={"width": 1300, "height": 1700})
            page.set_default_timeout(1000 * PATIENCE)
            page.on("dialog", lambda dialog: dialog.accept())
            page.route(re.compile(r"^https?://(?!127)"), lambda route: route.abort())  # what the front end would fetch
            yield Browser(
                page, f"http://127.0.0.1:{port}/{'lab/tree' if lab else 'notebooks'}/04.ipynb", lab, sources, shots
            )
            chromium.close()
    finally:
        server.terminate()
        server.wait(30)


PANEL, ESTIMATE, TRAIN = "ConfigPanel(", "estimate(panel", "with training_session("


def test_the_panel_trains_what_it_says_and_training_is_seen_after_a_stop_and_a_reload(browser):
    browser.load()
    for cell in ("# @title Set up", "# @title Parameters", "FaceStore.open", PANEL):
        browser.run(cell)
    browser.wait(lambda: "Will train" in browser.shown(PANEL), "1-panel")
    browser.type_in("Learning rate", 5)
    browser.type_in("Epochs", 6)
    browser.wait(lambda: "epochs 6" in browser.shown(PANEL), "2-refused")
    assert browser.shown(PANEL).count("Not used") == 1 and "'lr' is 5.0" in browser.shown(PANEL)
    browser.page.get_by_role("button", name="Estimate time and memory").click()
    browser.wait(lambda: "6 epochs will take" in browser.shown(PANEL), "3-estimate")
    browser.type_in("Epochs", 5)
    browser.wait(lambda: "Out of date" in browser.shown(PANEL), "4-out-of-date")
    browser.page.get_by_role("button", name="Find a learning rate").click()
    browser.wait(lambda: re.search("Try lr|Nothing can be", browser.shown(PANEL)), "5-finder")
    browser.run(PANEL)
    browser.wait(lambda: "epochs 5" in browser.shown(PANEL), "6-run-again")
    browser.run(ESTIMATE)
    browser.run(TRAIN)
    browser.wait(lambda: browser.pictures(TRAIN) == 2, "7-training")
    browser.stop()
    browser.wait(lambda: "Not complete" in browser.shown(TRAIN), "8-stopped")
    browser.run(TRAIN)
    browser.wait(lambda: "go on at step" in browser.shown(TRAIN) and browser.pictures(TRAIN) == 2, "9-run-again")
    browser.save()
    browser.load()
    browser.wait(lambda: browser.pictures(TRAIN) == 2, "10-loaded-again")
    assert "Loading widget" not in browser.shown(TRAIN)
    browser.stop()
    browser.run(TRAIN)
    browser.wait(lambda: "Complete" in browser.shown(TRAIN) and browser.pictures(TRAIN) == 2, "11-done")
    assert browser.shown(TRAIN).count("start with step 0") == 1 and "%|" not in browser.shown(TRAIN)
