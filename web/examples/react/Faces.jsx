// A React component that marks the faces of a photograph. The folder public/kpdetect/ holds a model.
import { Predictor, drawFaces } from "kpdetect";
import { useEffect, useRef, useState } from "react";

export function Faces({ src, base = "/kpdetect/" }) {
  const canvas = useRef(null);
  const [predictor, setPredictor] = useState(null);
  const [count, setCount] = useState(null);

  useEffect(() => {
    const loading = Predictor.load({ base });
    loading.then((loaded) => setPredictor(() => loaded)); // a predictor is a function
    return () => void loading.then((loaded) => loaded.close());
  }, [base]);

  useEffect(() => {
    if (!predictor) return;
    let current = true;
    (async () => {
      const picture = await createImageBitmap(await (await fetch(src)).blob());
      const faces = await predictor(picture);
      if (!current) return;
      Object.assign(canvas.current, { width: picture.width, height: picture.height });
      const context = canvas.current.getContext("2d");
      context.drawImage(picture, 0, 0);
      drawFaces(context, faces);
      setCount(faces.length);
    })();
    return () => void (current = false);
  }, [predictor, src]);

  return (
    <figure>
      <canvas ref={canvas} />
      <figcaption>{count === null ? "Loading" : `${count} faces`}</figcaption>
    </figure>
  );
}
