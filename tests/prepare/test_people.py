"""Tracking heads, with an analyzer that returns scripted faces."""

from __future__ import annotations

import numpy as np

from megaportraits.faces.detector import Face
from megaportraits.prepare.people import HeadTracker

IMAGE = np.zeros((100, 200, 3), np.uint8)
Place = tuple[float, float, float]


def face(x: float, y: float, side: float) -> Face:
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], np.float32)
    return Face(box, np.zeros((478, 3), np.float32), 1.0, np.zeros(52, np.float32))


class Script:
    """Frame after frame the faces in view; tracking finds the nearest, however far."""

    def __init__(self) -> None:
        self.now: list[Face] = []
        self.looks: list[bool] = []

    def detect(self, image: object, *, thorough: bool = True) -> list[Face]:
        self.looks.append(thorough)
        return sorted(self.now, key=lambda f: -f.area)

    def track(self, image: object, previous: Face) -> Face | None:
        return min(self.now, key=lambda f: float(abs(f.box - previous.box).sum()), default=None)


def follow(*frames: list[Place], limit: int = 3, allowed: np.ndarray | None = None) -> list[tuple[list[int], int]]:
    """Numbers of the heads followed and people counted, frame by frame."""
    script = Script()
    tracker = HeadTracker(script, limit)
    out = []
    for places in frames:
        script.now = [face(*place) for place in places]
        heads, people = tracker.update(IMAGE, allowed)
        out.append(([head.number for head in heads], people))
    return out


def test_a_head_keeps_its_number_while_it_moves() -> None:
    assert follow([(50, 50, 40)], [(60, 52, 42)], [(75, 50, 38)]) == [([0], 1)] * 3


def test_a_jump_to_somebody_else_is_a_new_head() -> None:
    assert follow([(40, 50, 40)], [(150, 50, 40)]) == [([0], 1), ([1], 1)]


def test_two_people_are_two_heads_and_each_counts() -> None:
    frames = [[(50, 50, 40), (150, 50, 40)]] * 3
    assert follow(*frames) == [([0, 1], 2)] * 3


def test_when_one_of_two_leaves_the_other_is_not_taken_for_both() -> None:
    out = follow([(50, 50, 40), (150, 50, 40)], [(50, 50, 40)], [(50, 50, 40)])
    assert out[1:] == [([0], 1), ([0], 1)]


def test_somebody_who_comes_in_is_seen_within_five_frames() -> None:
    frames = [[(50.0, 50.0, 40.0)], *[[(50.0, 50.0, 40.0), (150.0, 50.0, 40.0)]] * 5]
    assert follow(*frames)[-1] == ([0, 1], 2)


def test_a_tiny_face_in_the_background_is_nobody_and_the_limit_holds() -> None:
    assert follow([(50, 50, 60), (150, 50, 10)]) == [([0], 1)]
    assert follow([(30, 50, 40), (100, 50, 40), (170, 50, 40)], limit=2) == [([0, 1], 3)]


def test_only_the_head_in_the_box_is_followed_but_all_are_counted() -> None:
    allowed = np.array([100.0, 0, 200, 100])
    assert follow([(50, 50, 40), (150, 50, 40)], allowed=allowed) == [([0], 2)]


def test_empty_frames_are_searched_thoroughly_only_now_and_then() -> None:
    script = Script()
    tracker = HeadTracker(script, 1)
    for _ in range(21):
        tracker.update(IMAGE)
    assert sum(script.looks) == 3 and script.looks[0] and len(script.looks) == 21
