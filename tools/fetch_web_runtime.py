"""Refresh helpers/export/web/runtime: ONNX Runtime for browsers, from its npm package.

    python -m tools.fetch_web_runtime 1.30.0

Needs npm. Afterwards name the version in helpers/export/web/runtime/README.md and run tests/test_page.py.
"""

import gzip
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "helpers" / "export" / "web" / "runtime"


def fetch(version: str) -> None:
    """Write the script without its debugger's note, which would be looked for, and the WebAssembly, compressed."""
    with tempfile.TemporaryDirectory() as folder:
        packed = ["npm", "pack", "--silent", f"onnxruntime-web@{version}"]
        name = subprocess.run(packed, cwd=folder, check=True, capture_output=True, text=True).stdout.split()[-1]
        with tarfile.open(Path(folder) / name) as archive:
            script, wasm = (
                archive.extractfile(f"package/dist/{file}").read()  # type: ignore[union-attr]
                for file in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
            )
    script = re.sub(rb"//# sourceMappingURL=.*", b"", script)
    (FOLDER / "ort.wasm.bundle.min.mjs").write_bytes(script.rstrip() + b"\n")
    (FOLDER / "ort-wasm-simd-threaded.wasm.gz").write_bytes(gzip.compress(wasm, 9, mtime=0))


if __name__ == "__main__":
    fetch(sys.argv[1])
