"""Faces in pictures: detection, head pose, head crop, matte and background plate."""

from megaportraits.faces.crop import crop_of_pose, extract, head_crop, paste
from megaportraits.faces.detector import Face, FaceAnalyzer
from megaportraits.faces.pose import FacePose, fit_pose
from megaportraits.faces.tracking import CropTracker, OneEuroFilter, PoseSmoother
from megaportraits.ops.geometry import Crop

__all__ = [
    "Crop",
    "CropTracker",
    "Face",
    "FaceAnalyzer",
    "FacePose",
    "OneEuroFilter",
    "PoseSmoother",
    "crop_of_pose",
    "extract",
    "fit_pose",
    "head_crop",
    "paste",
]
