# %% cellView="form"
# @title Set up: get the code, install what is missing, open the workspace
USE_DRIVE = True  # @param {type:"boolean"}
import os
import subprocess
import sys
from pathlib import Path

ROOT = next((p for p in (Path.cwd(), *Path.cwd().parents) if (p / "helpers" / "config.py").exists()), None)
if ROOT is None:
    ROOT = Path.cwd() / "face-training"
    if not ROOT.exists():
        subprocess.run(["git", "clone", "--depth", "1", "--branch", "{branch}", "{repository}", str(ROOT)], check=True)
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))
from helpers.session import install

install.bring("requirements.txt")
from helpers.session.runtime import describe_machine, inspect_machine
from helpers.session.workspace import open_workspace

workspace = open_workspace(USE_DRIVE)
print(describe_machine(inspect_machine(workspace.folder)), workspace.note, sep="\n")
