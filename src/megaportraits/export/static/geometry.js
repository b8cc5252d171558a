// Geometry of face tracking and the head crop: faces/networks.py, blazeface.py, landmarks.py, pose.py, crop.py and
// tracking.py of the Python package, ported function by function. A test runs both on the same numbers.
//
// Pixel edges are integers: the centre of pixel i lies at i + 0.5. Head axes: x to the subject's left, y up, z to the
// camera.

const { PI, abs, atan2, cos, exp, hypot, log, max, min, round, sign, sin } = Math;

// Pictures ------------------------------------------------------------------------------------------------------------

/** Map points [[x, y], ...] in [0, 1] of a region {x, y, side, angle}, a rotated square, to image pixels. */
export function toImage(region, points) {
  const c = cos(region.angle) * region.side,
    s = sin(region.angle) * region.side;
  return points.map(([x, y]) => [region.x + (x - 0.5) * c - (y - 0.5) * s, region.y + (x - 0.5) * s + (y - 0.5) * c]);
}

/**
 * Sample a region of an RGBA image {data, width, height} as a network's input: (3, size, size) in [0, 1].
 * Outside, the image is black, or with `repeat` its border is repeated. Every output pixel is the mean of samples over
 * a square `spread` times as wide as the pixel.
 */
export function sample(frame, region, size, { repeat = false, spread = 1 } = {}) {
  const { data, width, height } = frame,
    plane = size * size,
    tensor = new Float32Array(3 * plane);
  const count = min(max(round((region.side / size) * spread), 1), 12),
    share = 1 / (255 * count * count);
  const [[left, top], [right, rise]] = toImage(region, [
    [0, 0],
    [1, 0],
  ]);
  // Step of one pixel along the crop's x axis; along its y axis the step is (-dy, dx).
  const dx = (right - left) / size,
    dy = (rise - top) / size;
  // Nearest-neighbour sampling is enough where many samples are averaged; otherwise sampling is bilinear.
  const corners = count < 6 ? 4 : 1,
    shift = corners === 4 ? 0.5 : 0;
  const steps = Array.from({ length: count }, (_, i) => 0.5 + ((i + 0.5) / count - 0.5) * (count > 1 ? spread : 1));
  for (let row = 0, pixel = 0; row < size; row++) {
    for (let column = 0; column < size; column++, pixel++) {
      let red = 0,
        green = 0,
        blue = 0;
      for (const v of steps) {
        for (const u of steps) {
          const x = left + (column + u) * dx - (row + v) * dy - shift,
            y = top + (column + u) * dy + (row + v) * dx - shift;
          const x0 = Math.floor(x),
            y0 = Math.floor(y),
            fx = corners === 4 ? x - x0 : 0,
            fy = corners === 4 ? y - y0 : 0;
          for (let corner = 0; corner < corners; corner++) {
            let cx = x0 + (corner & 1),
              cy = y0 + (corner >> 1);
            if (cx < 0 || cy < 0 || cx >= width || cy >= height) {
              if (!repeat) continue;
              cx = min(max(cx, 0), width - 1);
              cy = min(max(cy, 0), height - 1);
            }
            const weight = (corner & 1 ? fx : 1 - fx) * (corner >> 1 ? fy : 1 - fy),
              at = 4 * (cy * width + cx);
            red += weight * data[at];
            green += weight * data[at + 1];
            blue += weight * data[at + 2];
          }
        }
      }
      tensor[pixel] = red * share;
      tensor[plane + pixel] = green * share;
      tensor[2 * plane + pixel] = blue * share;
    }
  }
  return tensor;
}

// The detector --------------------------------------------------------------------------------------------------------

const THRESHOLD = 0.5,
  SAME_FACE = 0.3;

/** Centres [x, y] in [0, 1] of a detector's anchors; grids: [cells per side, anchors per cell] of each feature map. */
export function anchors(grids) {
  return grids.flatMap(([cells, count]) =>
    Array.from({ length: cells * cells * count }, (_, i) => {
      const cell = Math.floor(i / count);
      return [((cell % cells) + 0.5) / cells, (Math.floor(cell / cells) + 0.5) / cells];
    }),
  );
}

/**
 * Decode the detector's output for a region to faces, best first: {score, x, y, side, eyes} in image pixels, with the
 * subject's right and left eye. Boxes of one face are averaged with their scores as weights.
 */
export function detections(boxes, logits, centers, size, region) {
  const open = [];
  centers.forEach(([ax, ay], i) => {
    const score = sigmoid(logits[i]);
    if (score < THRESHOLD) return;
    const [x, y, w, h, ...points] = boxes.subarray(16 * i, 16 * i + 8); // the eyes are the first two of its six points
    const numbers = [x, y, w, h, ...points].map((value) => value / size);
    open.push({ score, box: numbers.map((value, k) => (k === 2 || k === 3 ? value : value + (k % 2 ? ay : ax))) });
  });
  open.sort((a, b) => b.score - a.score);
  const found = [];
  while (open.length) {
    const best = open[0],
      group = open.filter((other) => other === best || overlap(best.box, other.box) > SAME_FACE);
    const total = group.reduce((sum, one) => sum + one.score, 0);
    const mean = best.box.map((_, k) => group.reduce((sum, one) => sum + (one.score / total) * one.box[k], 0));
    const [[x, y], ...eyes] = toImage(region, [mean.slice(0, 2), mean.slice(4, 6), mean.slice(6, 8)]);
    found.push({ score: best.score, x, y, side: max(mean[2], mean[3]) * region.side, eyes });
    for (const one of group) open.splice(open.indexOf(one), 1);
  }
  return found;
}

/** The landmark network's input region, a rotated square, for a detected face. */
export function regionOfDetection({ x, y, side, eyes: [right, left] }) {
  return { x, y, side: 1.5 * side, angle: atan2(left[1] - right[1], left[0] - right[0]) };
}

/** Intersection over union of two boxes [x, y, w, h, ...], where x and y are their centres. */
function overlap(a, b) {
  const along = (k) =>
    max(min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2), 0);
  const shared = along(0) * along(1);
  return shared / (a[2] * a[3] + b[2] * b[3] - shared);
}

export const sigmoid = (logit) => 1 / (1 + exp(-logit));

// Landmarks and pose --------------------------------------------------------------------------------------------------

/** The landmark network's output (x, y, z in pixels of its crop) as points [x, y, z] in pixels of the image. */
export function landmarksOf(numbers, size, region) {
  const points = [];
  for (let i = 0; i < numbers.length; i += 3) {
    const [[x, y]] = toImage(region, [[numbers[i] / size, numbers[i + 1] / size]]);
    points.push([x, y, (numbers[i + 2] / size) * region.side]);
  }
  return points;
}

/** The landmark network's next input region, from the current landmarks; eyes: indices of the outer corners. */
export function regionOfLandmarks(landmarks, { mesh_count, eyes: [right, left] }) {
  const angle = atan2(landmarks[left][1] - landmarks[right][1], landmarks[left][0] - landmarks[right][0]);
  const c = cos(angle),
    s = sin(angle);
  const low = [Infinity, Infinity],
    high = [-Infinity, -Infinity];
  for (const [x, y] of landmarks.slice(0, mesh_count)) {
    [x * c + y * s, y * c - x * s].forEach((value, k) => {
      low[k] = min(low[k], value);
      high[k] = max(high[k], value);
    });
  }
  const u = (low[0] + high[0]) / 2,
    v = (low[1] + high[1]) / 2;
  return { x: u * c - v * s, y: u * s + v * c, side: 1.5 * max(high[0] - low[0], high[1] - low[1]), angle };
}

/**
 * The head pose {rotation, pxPerCm, origin} that fits the rigid points of the mean face {points, vertices, weights} to
 * the landmarks: a weighted similarity fit (Horn, 1987).
 */
export function fitPose(landmarks, mesh) {
  const target = mesh.points.map((index) => [landmarks[index][0], -landmarks[index][1], -landmarks[index][2]]);
  const mean = (points) => [0, 1, 2].map((k) => points.reduce((sum, p, i) => sum + mesh.weights[i] * p[k], 0));
  const from = mean(mesh.vertices),
    to = mean(target);
  const s = [
    [0, 0, 0],
    [0, 0, 0],
    [0, 0, 0],
  ];
  let spread = 0;
  mesh.vertices.forEach((vertex, i) => {
    for (let a = 0; a < 3; a++) {
      spread += mesh.weights[i] * (vertex[a] - from[a]) ** 2;
      for (let b = 0; b < 3; b++) s[a][b] += mesh.weights[i] * (vertex[a] - from[a]) * (target[i][b] - to[b]);
    }
  });
  const [[xx, xy, xz], [yx, yy, yz], [zx, zy, zz]] = s;
  const {
    value,
    vector: [w, x, y, z],
  } = largestEigenvector([
    [xx + yy + zz, yz - zy, zx - xz, xy - yx],
    [yz - zy, xx - yy - zz, xy + yx, zx + xz],
    [zx - xz, xy + yx, yy - xx - zz, yz + zy],
    [xy - yx, zx + xz, yz + zy, zz - xx - yy],
  ]);
  const rotation = [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ];
  const pxPerCm = value / spread,
    moved = rotate(rotation, from);
  return { rotation, pxPerCm, origin: [to[0] - pxPerCm * moved[0], -(to[1] - pxPerCm * moved[1])] };
}

const rotate = (rotation, point) => rotation.map((row) => row[0] * point[0] + row[1] * point[1] + row[2] * point[2]);

/** The largest eigenvalue of a symmetric matrix and its eigenvector, by Jacobi rotations. */
function largestEigenvector(matrix) {
  const a = matrix.map((row) => [...row]),
    n = a.length;
  const v = a.map((_, i) => a.map((_, j) => (i === j ? 1 : 0)));
  for (let sweep = 0; sweep < 12; sweep++) {
    for (let p = 0; p < n - 1; p++) {
      for (let q = p + 1; q < n; q++) {
        if (a[p][q] === 0) continue;
        const angle = atan2(2 * a[p][q], a[q][q] - a[p][p]) / 2,
          c = cos(angle),
          s = sin(angle);
        for (const rows of [a, v])
          for (const row of rows) [row[p], row[q]] = [c * row[p] - s * row[q], s * row[p] + c * row[q]];
        for (let k = 0; k < n; k++) [a[p][k], a[q][k]] = [c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]];
      }
    }
  }
  const best = a.reduce((top, row, i) => (row[i] > a[top][top] ? i : top), 0);
  return { value: a[best][best], vector: v.map((row) => row[best]) };
}

/** Rotation to degrees [yaw, pitch, roll], yaw within [-90, 90]. */
export function toEuler(r) {
  return [Math.asin(min(max(-r[2][0], -1), 1)), atan2(r[2][1], r[2][2]), atan2(r[1][0], r[0][0])].map(
    (angle) => (angle * 180) / PI,
  );
}

/** The inverse: Rz(roll) Ry(yaw) Rx(pitch). */
export function fromEuler([yaw, pitch, roll]) {
  const [y, p, r] = [yaw, pitch, roll].map((angle) => (angle * PI) / 180);
  const [cy, sy, cp, sp, cr, sr] = [cos(y), sin(y), cos(p), sin(p), cos(r), sin(r)];
  return [
    [cr * cy, cr * sy * sp - sr * cp, cr * sy * cp + sr * sp],
    [sr * cy, sr * sy * sp + cr * cp, sr * sy * cp - cr * sp],
    [-sy, cy * sp, cy * cp],
  ];
}

/** The standard head crop {x, y, side} of a pose; head: {cm, center}, its width and the head point in its middle. */
export function cropOfPose(pose, head) {
  const [x, y] = rotate(pose.rotation, head.center);
  return { x: pose.origin[0] + x * pose.pxPerCm, y: pose.origin[1] - y * pose.pxPerCm, side: head.cm * pose.pxPerCm };
}

// Smoothing -----------------------------------------------------------------------------------------------------------

const GAP = 0.25,
  JUMP_DEGREES = 25,
  JUMP_CM = 5;

/** The 1-euro filter (Casiez et al., 2012) of a list of numbers: a low-pass whose cutoff rises with speed. */
export class OneEuroFilter {
  constructor(minCutoff = 1, beta = 0.1, derivativeCutoff = 1) {
    Object.assign(this, { minCutoff, beta, derivativeCutoff, time: null });
  }

  /** The filtered values at a time in seconds; times that do not advance change nothing. */
  next(raw, time) {
    if (this.time === null) {
      Object.assign(this, { time, value: raw, speed: raw.map(() => 0) });
      return raw;
    }
    const elapsed = time - this.time;
    if (elapsed <= 0) return this.value;
    const slow = gain(this.derivativeCutoff, elapsed);
    this.speed = this.speed.map((speed, k) => speed + slow * ((raw[k] - this.value[k]) / elapsed - speed));
    this.value = this.value.map(
      (value, k) => value + gain(this.minCutoff + this.beta * abs(this.speed[k]), elapsed) * (raw[k] - value),
    );
    this.time = time;
    return this.value;
  }
}

const gain = (cutoff, elapsed) => 1 / (1 + 1 / (2 * PI * cutoff * elapsed));

/** Smooths a video's head poses: 1-euro filters of angles, position and size, reset after a gap or a jump. */
export class PoseSmoother {
  constructor(head) {
    this.half = head.cm / 2;
    this.time = -Infinity;
    this.start(1);
  }

  /** The smoothed pose of the frame at a time in seconds. */
  next(pose, time) {
    let { angles, place } = this.measure(pose);
    const far = (now, before) => max(...now.map((value, k) => abs(value - before[k])));
    if (time - this.time > GAP || far(angles, this.angles) > JUMP_DEGREES || far(place, this.place) > JUMP_CM) {
      this.start(pose.pxPerCm);
      ({ angles, place } = this.measure(pose));
    }
    this.angles = this.turn.next(angles, time);
    this.place = this.shift.next(place, time);
    this.time = time;
    return {
      rotation: fromEuler(this.angles),
      pxPerCm: this.unit * exp(this.place[2] / this.half),
      origin: [this.place[0] * this.unit, this.place[1] * this.unit],
    };
  }

  start(unit) {
    this.unit = unit;
    this.turn = new OneEuroFilter(1, 0.5);
    this.shift = new OneEuroFilter(1, 1);
    this.angles = [0, 0, 0];
    this.place = [0, 0, 0];
  }

  /** Filter inputs: angles, degrees, unwrapped to the last ones; position and size, cm at the crop's border. */
  measure(pose) {
    const angles = toEuler(pose.rotation).map((angle, k) => angle - 360 * round((angle - this.angles[k]) / 360));
    return {
      angles,
      place: [...pose.origin.map((value) => value / this.unit), this.half * log(pose.pxPerCm / this.unit)],
    };
  }
}

const DEAD_ZONE = 0.05,
  DEAD_ZOOM = log(1.08),
  REACH = 0.12,
  SETTLE = 0.4;

/** The head crop through a video: fixed while the head is inside a dead zone, then it follows smoothly. */
export class CropTracker {
  constructor(head) {
    this.head = head;
    this.crop = this.time = null;
  }

  /** The crop {x, y, side} of the frame at a time in seconds. */
  next(pose, time) {
    const head = cropOfPose(pose, this.head),
      crop = this.crop ?? head;
    const soft = 1 - exp(-(this.time === null ? 0 : max(time - this.time, 0)) / SETTLE);
    this.time = time;
    const zoom = log(head.side / crop.side),
      outside = sign(zoom) * max(abs(zoom) - DEAD_ZOOM, 0);
    const dx = head.x - crop.x,
      dy = head.y - crop.y,
      distance = hypot(dx, dy),
      beyond = distance - DEAD_ZONE * crop.side;
    const share = beyond <= 0 ? 0 : max(soft * beyond, distance - REACH * crop.side) / distance;
    this.crop = { x: crop.x + share * dx, y: crop.y + share * dy, side: crop.side * exp(soft * outside) };
    return this.crop;
  }
}
