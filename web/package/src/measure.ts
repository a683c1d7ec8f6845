/** Measures of a face: head pose, eyes, mouth and smile, as in kpdetect/measures. */

import type { Face } from "./face";
import type { Point } from "./geometry";

const CLOSED_EYE = 0.2;
const CAMERA_DISTANCE = 9; // in distances between the outer eye corners

type Place = readonly [x: number, y: number, z: number];

const RIGHT_HALF: Readonly<Record<string, Place>> = {
  right_eyebrow_1: [-0.666, -0.563, -0.14],
  right_eyebrow_5: [-0.138, -0.612, 0.1],
  right_eye_outer: [-0.5, -0.423, -0.14],
  right_eye_inner: [-0.216, -0.404, -0.04],
  nostril_right_2: [-0.163, 0.059, 0.1],
  nostril_right_1: [-0.084, 0.085, 0.17],
  mouth_right: [-0.317, 0.314, 0],
};
const MIDDLE: Readonly<Record<string, Place>> = {
  nose_bridge_1: [0, -0.448, 0.06],
  nose_bridge_2: [0, -0.308, 0.14],
  nose_bridge_3: [0, -0.171, 0.24],
  nose_tip: [0, -0.03, 0.34],
  nose_base: [0, 0.11, 0.2],
  chin: [0, 0.849, -0.03],
};
const LEFT_HALF = Object.fromEntries(
  Object.entries(RIGHT_HALF).map(([name, [x, y, z]]): [string, Place] => [name.replace("right", "left"), [-x, y, z]]),
);
/** Points of a mean face: x to the right of the picture, y down, z towards the camera, in outer eye distances. */
export const MEAN_FACE: Readonly<Record<string, Place>> = { ...RIGHT_HALF, ...MIDDLE, ...LEFT_HALF };

/** Degrees: yaw is positive if the nose points to the right of the picture, pitch if the face looks down, roll clockwise. */
export interface HeadPose {
  readonly yaw_deg: number;
  readonly pitch_deg: number;
  readonly roll_deg: number;
}

/** All measures; null for those whose points the scheme lacks. */
export interface Measures {
  readonly head_pose: HeadPose | null;
  /** Aspect ratio of each eye: 0 is closed, about 0.3 is open. */
  readonly eye_openness: { readonly right: number; readonly left: number } | null;
  readonly eyes_closed: boolean | null;
  /** 0 is closed; from 0.5 the mouth is wide open. */
  readonly mouth_openness: number | null;
  /** About 0.6 for a neutral face, above 0.85 for a broad smile. */
  readonly smile: number | null;
}

/** All measures of a face, by the names and in the units of Python's `measure`. */
export function measure(face: Face): Measures {
  const eyes = eyeOpenness(face);
  return {
    head_pose: headPose(face),
    eye_openness: eyes,
    eyes_closed: eyes && (eyes.right + eyes.left) / 2 < CLOSED_EYE,
    mouth_openness: mouthOpenness(face),
    smile: smile(face),
  };
}

function pointsOf({ schema, keypoints }: Face, names: readonly string[]): Point[] | null {
  const indices = names.map((name) => schema.point_names.indexOf(name));
  return indices.includes(-1) ? null : indices.map((index) => keypoints[index]);
}

function apart([x, y]: Point, [u, v]: Point): number {
  return Math.hypot(x - u, y - v);
}

const EYE = ["outer", "top_outer", "top_inner", "inner", "bottom_inner", "bottom_outer"];

function eyeOpenness(face: Face): { right: number; left: number } | null {
  const ratio = (side: string): number | null => {
    const eye = pointsOf(face, EYE.map((place) => `${side}_eye_${place}`));
    return eye && (apart(eye[1], eye[5]) + apart(eye[2], eye[4])) / (2 * apart(eye[0], eye[3]));
  };
  const [right, left] = [ratio("right"), ratio("left")];
  return right === null || left === null ? null : { right, left };
}

function mouthOpenness(face: Face): number | null {
  const [right, left] = ["inner_mouth_right", "inner_mouth_left"];
  const upper = ["inner_upper_lip_right", "inner_upper_lip", "inner_upper_lip_left"];
  const points = pointsOf(face, [right, left, ...upper, ...upper.map((name) => name.replace("upper", "lower"))]);
  if (points === null) return null;
  const gaps = [0, 1, 2].map((i) => apart(points[2 + i], points[5 + i]));
  return (gaps[0] + gaps[1] + gaps[2]) / 3 / apart(points[0], points[1]);
}

function smile(face: Face): number | null {
  const names = ["right_eye_outer", "left_eye_outer", "mouth_right", "mouth_left", "upper_lip_top", "lower_lip_bottom"];
  const points = pointsOf(face, names);
  if (points === null) return null;
  const [rightEye, leftEye, right, left, top, bottom] = points;
  const unit = apart(leftEye, rightEye);
  const [x, y] = [(leftEye[0] - rightEye[0]) / unit, (leftEye[1] - rightEye[1]) / unit];
  const lift = ((top[0] + bottom[0] - left[0] - right[0]) / 2) * -y + ((top[1] + bottom[1] - left[1] - right[1]) / 2) * x;
  return (apart(left, right) + 2 * lift) / unit;
}

/** Fits the mean face in space to the points by Levenberg-Marquardt, as `cv2.solvePnP` does in Python. */
function headPose(face: Face): HeadPose | null {
  const seen = pointsOf(face, Object.keys(MEAN_FACE));
  if (seen === null) return null;
  const model = Object.values(MEAN_FACE).map(([x, y, z]): Place => [x, y, -z]); // z away from the camera
  const start = scaledRotation(model, seen);
  if (start === null) return null;
  const center = meanOf(seen);
  const focal = CAMERA_DISTANCE * start.scale;
  const middle = meanOf(model);
  const turned = rotated(start.rotation, middle as unknown as Place);
  let rotation = start.rotation;
  let place: Place = [-turned[0], -turned[1], CAMERA_DISTANCE - turned[2]];
  let [damping, error] = [1e-3, residuals(model, seen, rotation, place, focal, center)];
  for (let step = 0; step < 40; step++) {
    const moves = solve(...normalEquations(model, seen, rotation, place, focal, center, error, damping));
    const nextRotation = product(rotationOf(moves.slice(0, 3)), rotation);
    const nextPlace: Place = [place[0] + moves[3], place[1] + moves[4], place[2] + moves[5]];
    const next = residuals(model, seen, nextRotation, nextPlace, focal, center);
    if (norm(next) < norm(error)) {
      const gain = norm(error) - norm(next);
      [rotation, place, error, damping] = [nextRotation, nextPlace, next, damping / 10];
      if (gain < 1e-12 * focal * focal) break;
    } else {
      damping *= 10;
    }
  }
  const degrees = 180 / Math.PI;
  return {
    yaw_deg: Math.atan2(rotation[2][0], rotation[2][2]) * degrees,
    pitch_deg: Math.asin(Math.min(Math.max(rotation[2][1], -1), 1)) * degrees,
    roll_deg: Math.atan2(-rotation[0][1], rotation[1][1]) * degrees,
  };
}

type Rows = readonly (readonly number[])[];

function meanOf(points: Rows): number[] {
  return points[0].map((_, axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
}

function rotated(rotation: Rows, point: readonly number[]): number[] {
  return rotation.map((row) => row.reduce((sum, value, axis) => sum + value * point[axis], 0));
}

function product(first: Rows, second: Rows): number[][] {
  return first.map((row) => second[0].map((_, column) => row.reduce((sum, value, i) => sum + value * second[i][column], 0)));
}

/** The rotation of an axis whose length is the angle (Rodrigues). */
function rotationOf([x, y, z]: readonly number[]): number[][] {
  const angle = Math.hypot(x, y, z);
  if (angle < 1e-12) return [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
  const [a, b, c] = [x / angle, y / angle, z / angle];
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const rest = 1 - cos;
  return [
    [cos + a * a * rest, a * b * rest - c * sin, a * c * rest + b * sin],
    [a * b * rest + c * sin, cos + b * b * rest, b * c * rest - a * sin],
    [a * c * rest - b * sin, b * c * rest + a * sin, cos + c * c * rest],
  ];
}

/** Horizontal and vertical errors of the projected points, in pixels. */
function residuals(model: Rows, seen: Rows, rotation: Rows, place: Place, focal: number, center: readonly number[]): number[] {
  return model.flatMap((point, i) => {
    const [x, y, z] = rotated(rotation, point).map((value, axis) => value + place[axis]);
    return [(focal * x) / z + center[0] - seen[i][0], (focal * y) / z + center[1] - seen[i][1]];
  });
}

function norm(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value * value, 0);
}

function normalEquations(
  model: Rows, seen: Rows, rotation: Rows, place: Place, focal: number, center: readonly number[],
  error: readonly number[], damping: number,
): [number[][], number[]] {
  const small = 1e-6;
  const columns = Array.from({ length: 6 }, (_, i) => {
    const move = Array.from({ length: 6 }, (_unused, j) => (i === j ? small : 0));
    const moved = residuals(
      model, seen, product(rotationOf(move.slice(0, 3)), rotation),
      [place[0] + move[3], place[1] + move[4], place[2] + move[5]], focal, center,
    );
    return moved.map((value, k) => (value - error[k]) / small);
  });
  const dot = (one: readonly number[], other: readonly number[]) => one.reduce((sum, value, k) => sum + value * other[k], 0);
  const square = columns.map((one, i) => columns.map((other, j) => dot(one, other) * (i === j ? 1 + damping : 1)));
  return [square, columns.map((column) => -dot(column, error))];
}

/** Gaussian elimination with pivoting. */
function solve(square: number[][], right: number[]): number[] {
  const size = right.length;
  const rows = square.map((row, i) => [...row, right[i]]);
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let row = column; row < size; row++) if (Math.abs(rows[row][column]) > Math.abs(rows[pivot][column])) pivot = row;
    [rows[column], rows[pivot]] = [rows[pivot], rows[column]];
    for (let row = 0; row < size; row++) {
      if (row === column) continue;
      const factor = rows[row][column] / rows[column][column];
      for (let k = column; k <= size; k++) rows[row][k] -= factor * rows[column][k];
    }
  }
  return rows.map((row, i) => row[size] / row[i]);
}

/** The rotation and the scale of a distant face, by linear least squares and the nearest orthonormal rows. */
export function scaledRotation(model: Rows, seen: Rows): { rotation: number[][]; scale: number } | null {
  const [middle, center] = [meanOf(model), meanOf(seen)];
  const square = [[0, 0, 0], [0, 0, 0], [0, 0, 0]];
  const mixed = [[0, 0, 0], [0, 0, 0]];
  for (const [n, point] of model.entries()) {
    const place = point.map((value, axis) => value - middle[axis]);
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 3; j++) square[i][j] += place[i] * place[j];
      for (let k = 0; k < 2; k++) mixed[k][i] += (seen[n][k] - center[k]) * place[i];
    }
  }
  const [first, second] = mixed.map((row) => solve(square.map((values) => [...values]), row));
  // The polar decomposition of two rows; the scale is the mean singular value.
  const dot = (one: readonly number[], other: readonly number[]) => one.reduce((sum, value, i) => sum + value * other[i], 0);
  const [p, q, r] = [dot(first, first), dot(first, second), dot(second, second)];
  const root = Math.sqrt(Math.max(p * r - q * q, 0));
  const trace = Math.sqrt(p + r + 2 * root);
  if (!(root > 1e-3 * trace * trace)) return null;
  const rows = [
    first.map((value, i) => ((r + root) * value - q * second[i]) / (trace * root)),
    second.map((value, i) => ((p + root) * value - q * first[i]) / (trace * root)),
  ];
  const [[a, b, c], [d, e, f]] = rows;
  return { rotation: [...rows, [b * f - c * e, c * d - a * f, a * e - b * d]], scale: trace / 2 };
}
