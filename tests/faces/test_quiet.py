"""Log lines of native libraries on standard error: INFO is dropped, everything else is kept."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from megaportraits.faces.quiet import without_native_info


def test_info_is_dropped_and_other_lines_arrive_also_when_the_block_raises(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="stop"), without_native_info():
        os.write(2, b"INFO: Created a delegate.\nERROR: a real error\nno line end")
        raise RuntimeError("stop")
    os.write(2, b"\nINFO: of later\n")
    assert capfd.readouterr().err == "ERROR: a real error\nno line end\nINFO: of later\n"


def test_a_process_without_standard_error_works() -> None:
    program = (
        "import os; os.close(2)\n"
        "from megaportraits.faces.quiet import without_native_info\n"
        "with without_native_info(): print('done')"
    )
    result = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    assert result.stdout == "done\n"


def test_detecting_a_face_writes_nothing_to_standard_error() -> None:
    program = (
        "from megaportraits.faces import FaceAnalyzer\n"
        "from megaportraits.faces.crop import head_crop\n"
        "from megaportraits.faces.matting import Matting\n"
        "from megaportraits.pipeline.demo import demo_portrait\n"
        "picture = demo_portrait()\n"
        "face = FaceAnalyzer().detect(picture)[0]\n"
        "print(Matting().matte(picture, face, head_crop(face), 128).shape)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("(128, 128)\n", "")
