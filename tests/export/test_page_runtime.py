"""The page loads onnxruntime-web only if the file has the expected hash; run by node."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from megaportraits.export.page import SCRIPTS, integrity

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")
STATIC = Path(str(files("megaportraits.export"))) / "static"

RUN = """
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { Runtime } from "./runtime.js";
const { served, integrity } = JSON.parse(readFileSync(0, "utf8"));
const asked = [];
const server = createServer((request, response) => {
  const name = request.url.slice(1);
  asked.push(name);
  response.writeHead(name in served ? 200 : 404).end(served[name] ?? "");
}).listen(0, "127.0.0.1", async () => {
  // What node has not, or only elsewhere: a page, and addresses of its memory that can be imported.
  Object.defineProperty(globalThis, "navigator", { value: { hardwareConcurrency: 2 }, configurable: true });
  globalThis.document = { baseURI: "http://page.invalid/" };
  globalThis.Blob = class { constructor(parts) { this.parts = parts; } };
  URL.createObjectURL = ({ parts }) => "data:text/javascript;base64," + Buffer.from(parts[0]).toString("base64");
  let result;
  try {
    const { ort, gpu } = await Runtime.load(`http://127.0.0.1:${server.address().port}/`, integrity);
    const module = await import(ort.env.wasm.wasmPaths.mjs);
    result = { gpu, module: module.default, program: Buffer.from(ort.env.wasm.wasmBinary).toString() };
  } catch (error) {
    result = { error: `${error.message} ${error.cause ?? ""}` };
  }
  console.log(JSON.stringify({ ...result, asked: asked.sort() }));
  server.close();
});
"""
SERVED = {
    "ort.wasm.min.mjs": "export const env = { wasm: {} };",
    "ort-wasm-simd-threaded.mjs": "export default 'the module';",
    "ort-wasm-simd-threaded.wasm": "the program",
}


def load(folder: Path, served: dict[str, str], hashes: dict[str, str]) -> dict[str, object]:
    shutil.copy(STATIC / "runtime.js", folder)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "run.js").write_text(RUN)
    given = json.dumps({"served": served, "integrity": hashes})
    done = subprocess.run(
        [str(NODE), "run.js"], cwd=folder, input=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


HASHES = {name: integrity(text.encode()) for name, text in SERVED.items()}


def test_scripts_with_the_right_hashes_are_loaded_and_no_others_are_asked_for(tmp_path: Path) -> None:
    found = load(tmp_path, SERVED, HASHES)
    assert found == {"gpu": False, "module": "the module", "program": "the program", "asked": sorted(SERVED)}


@pytest.mark.parametrize("name", SERVED)
def test_one_changed_byte_stops_the_page_from_running_any_of_them(name: str, tmp_path: Path) -> None:
    found = load(tmp_path, {**SERVED, name: SERVED[name] + " "}, HASHES)
    assert "integrity" in str(found["error"]) and "module" not in found


def test_a_script_without_a_hash_is_not_loaded(tmp_path: Path) -> None:
    hashes = {name: value for name, value in HASHES.items() if not name.endswith(".wasm")}
    assert "has no hash" in str(load(tmp_path, SERVED, hashes)["error"])


def test_the_page_knows_a_hash_of_every_file_that_it_names() -> None:
    named = {name for name in SCRIPTS if f'"{name}"' in (STATIC / "runtime.js").read_text(encoding="utf-8")}
    assert named == set(SCRIPTS)
