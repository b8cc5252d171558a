// Tracks the driver's head like HeadFollower of the Python package: face, landmarks, pose, and a steady head crop.

import {
  anchors,
  CropTracker,
  detections,
  fitPose,
  landmarksOf,
  PoseSmoother,
  regionOfDetection,
  regionOfLandmarks,
  sample,
  sigmoid,
} from "./geometry.js";

const MOVED = 0.12; // offset of a region, as a fraction of its side, above which landmarks are computed again
const SMALLEST_FACE = 12; // pixels

/** Tracks one head through images {data, width, height}. `networks`: {detector, landmarks}, tensor to outputs. */
export class HeadFollower {
  constructor(networks, settings) {
    this.networks = networks;
    this.settings = settings;
    this.anchors = anchors(settings.faces.detector.grids);
    this.forget();
  }

  /** Find the head in the next image; `time` in seconds. Returns the crop {x, y, side, angle}, or null. */
  async look(frame, time) {
    const landmarks = (this.region && (await this.refine(frame, this.region, false))) || (await this.search(frame));
    if (!landmarks) {
      this.smooth = new PoseSmoother(this.settings.crop);
      return null;
    }
    this.region = regionOfLandmarks(landmarks, this.settings.faces.landmarks);
    const pose = this.smooth.next(fitPose(landmarks, this.settings.mesh), time);
    return { ...this.tracker.next(pose, time), angle: 0 };
  }

  /** Forget the tracked head, for example when the camera changes. */
  forget() {
    this.region = null;
    this.smooth = new PoseSmoother(this.settings.crop);
    this.tracker = new CropTracker(this.settings.crop);
  }

  /** Detect a face and its landmarks: near the last position, then in the whole image, then in its centre. */
  async search(frame) {
    const { width, height } = frame,
      x = width / 2,
      y = height / 2,
      long = Math.max(width, height);
    const squares = [long, 1.8 * long, 0.6 * Math.min(width, height)].map((side) => ({ x, y, side, angle: 0 }));
    if (this.region) squares.unshift({ ...this.region, side: 2.5 * this.region.side, angle: 0 });
    for (const square of squares) {
      for (const face of (await this.detect(frame, square)).sort((a, b) => b.side - a.side)) {
        const landmarks = await this.refine(frame, regionOfDetection(face), true);
        if (landmarks) return landmarks;
      }
    }
    return null;
  }

  async detect(frame, region) {
    const { size } = this.settings.faces.detector;
    const { boxes, scores } = await this.networks.detector(sample(frame, region, size));
    return detections(boxes, scores, this.anchors, size, region);
  }

  /** Landmarks in a region. They are computed again if they are off its centre, and always for a new region. */
  async refine(frame, region, fresh) {
    const { size, presence: least } = this.settings.faces.landmarks;
    for (let attempt = 0; ; attempt++) {
      if (region.side < SMALLEST_FACE) return null;
      const { landmarks: numbers, presence } = await this.networks.landmarks(sample(frame, region, size));
      if (sigmoid(presence[0]) < least) return null;
      const landmarks = landmarksOf(numbers, size, region),
        better = regionOfLandmarks(landmarks, this.settings.faces.landmarks);
      const off = Math.max(
        Math.hypot(better.x - region.x, better.y - region.y) / region.side,
        Math.abs(better.side / region.side - 1),
      );
      if (attempt === 1 || (!fresh && off < MOVED)) return landmarks;
      region = better;
    }
  }
}
