from __future__ import annotations

import numpy as np
import pytest
import torch

from megaportraits.errors import WeightsError
from megaportraits.export.report import ExportReport
from megaportraits.export.student import StudentExport, export_student_model
from megaportraits.models.student import Student
from megaportraits.runtimes import open_graph, read_info
from megaportraits.runtimes.arrays import image_array
from tests.export.conftest import heads


def picture(got: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([got["image"], got["alpha"]], 1)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_index_chooses_the_avatar_and_pictures_equal_torch(
    student: Student, student_export: ExportReport, runtime: str
) -> None:
    pytest.importorskip(runtime)
    graph = open_graph(student_export.folder / "student.onnx", runtime)  # type: ignore[arg-type]
    driver = image_array(heads(1, 64, seed=7)[0].image)
    pictures = []
    for index in range(3):
        got = picture(graph({"driver": driver, "avatar": np.array([index])}))  # type: ignore[arg-type]
        output = student(torch.from_numpy(driver), torch.tensor([index]))
        assert np.abs(got - torch.cat([output.image, output.alpha], 1).numpy()).max() < 1e-3
        pictures.append(got)
    assert np.abs(pictures[0] - pictures[1]).max() > 0.05
    assert read_info(student_export.folder / "student.onnx").avatars == ("ada", "bo", "cy")


def test_a_baked_avatar_equals_its_index_and_leaves_the_others_out(
    student_export: ExportReport, bo_alone: object
) -> None:
    everybody = open_graph(student_export.folder / "student.onnx")
    bo = open_graph(bo_alone)  # type: ignore[arg-type]
    assert list(bo.inputs) == ["driver"] and bo.info.avatars == ("bo",)
    driver = image_array(heads(1, 64, seed=8)[0].image)
    one, two = bo({"driver": driver}), everybody({"driver": driver, "avatar": np.array([1])})
    assert np.abs(picture(one) - picture(two)).max() < 1e-5  # type: ignore[arg-type]


def test_an_unknown_avatar_is_refused_with_the_known_names(student: Student, tmp_path: object) -> None:
    with pytest.raises(WeightsError, match="no avatar 'zoe'"):
        export_student_model(student, tmp_path, StudentExport(avatar="zoe"), heads(1, 64))  # type: ignore[arg-type]
