/** Facial keypoints in the browser: faces of pictures and videos, their measures, drawings and filters. */

export type { Progress } from "./assets";
export { contourEdges } from "./contours";
export { drawFaces, type DrawOptions } from "./drawing";
export type { PredictOptions, Times } from "./engine";
export { group, guessed, keypointConfidence, point, type Face } from "./face";
export { applyFilters, loadFilters, type Filter } from "./filters";
export type { Box, Point } from "./geometry";
export { measure, type HeadPose, type Measures } from "./measure";
export { Predictor, Tracker, type Image, type LoadOptions, type TrackedFace } from "./predictor";
export { asCoco, asCsv, asJson, toDict, type Result } from "./results";
export type { FilterSettings, Schema, Settings, Spec } from "./settings";
export type { TrackerOptions } from "./tracking";
