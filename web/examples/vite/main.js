// The camera with tracked faces. The folder public/kpdetect/ holds a model: kpdetect export --formats web.
import { Predictor, Tracker, applyFilters, drawFaces, loadFilters } from "kpdetect";

const video = document.querySelector("video");
const canvas = document.querySelector("canvas");
const context = canvas.getContext("2d");

const predictor = await Predictor.load({ base: "/kpdetect/" });
const filters = await loadFilters(predictor, ["sunglasses"]);
const tracker = new Tracker(predictor);
video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
await video.play();
[canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];

for (;;) {
  const frame = await createImageBitmap(video);
  const tracked = await tracker.next(video, performance.now() / 1000);
  const faces = tracked.map(({ face }) => face);
  context.drawImage(frame, 0, 0);
  frame.close();
  applyFilters(context, faces, filters);
  drawFaces(context, faces, { contours: false });
  await new Promise(requestAnimationFrame);
}
