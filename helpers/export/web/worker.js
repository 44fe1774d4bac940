// Runs the models beside the page, so that buttons and picture never wait: pixels come in, answers go out.

let ort, model, detector, names;

self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ answer: await (data.parts ? open(data) : read(data)) });
  } catch (error) {
    self.postMessage({ error: String(error?.message ?? error) });
  }
};

/** Open the models, which came as bytes; `exports` names what the model gives of a face. */
async function open({ parts, exports }) {
  const script = URL.createObjectURL(new Blob([parts.ort], { type: "text/javascript" }));
  ort = await import(script);
  URL.revokeObjectURL(script);
  ort.env.wasm.wasmBinary = parts.wasm;
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  // Every face has its own size, and a plan of the memory would be kept for each.
  const options = { executionProviders: ["wasm"], enableMemPattern: false };
  model = await ort.InferenceSession.create(parts.model, options);
  detector = parts.detector && (await ort.InferenceSession.create(parts.detector, options));
  names = exports;
  // The first run prepares what all later ones use.
  await read({ rgba: new Uint8ClampedArray(4 * 64 * 64), width: 64, height: 64, box: [0, 0, 64, 64], most: 1 });
  return {};
}

/**
 * Find and read the faces of a picture.
 * `rgba` holds its pixels, `box` is the face where no detector shall look for faces, `most` limits how many are read.
 */
async function read({ rgba, width, height, box, most }) {
  const start = performance.now();
  const whole = [0, 0, width, height];
  const found = box ? { boxes: [box], scores: [null] } : await detect(pixels(rgba, width, whole));
  const detected = performance.now();
  const faces = [];
  for (const [number, edges] of found.boxes.slice(0, most).entries()) {
    const outputs = await model.run({ faces: pixels(rgba, width, edges, true) });
    const face = { box: edges, score: found.scores[number] };
    for (const name of names) {
      const values = Array.from(outputs[name].data);
      face[name] = outputs[name].dims.length > 1 ? values : values[0];
    }
    faces.push(face);
  }
  return { width, height, faces, detecting: detected - start, milliseconds: performance.now() - start };
}

async function detect(picture) {
  const { boxes, scores } = await detector.run({ picture });
  const edges = Array.from(boxes.data, Number);
  return { boxes: Array.from(scores.data, (_, row) => edges.slice(4 * row, 4 * row + 4)), scores: scores.data };
}

/** RGB inside a box (left, top, right, bottom) as uint8 (H, W, 3), or as a batch of one. */
function pixels(rgba, width, [left, top, right, bottom], batch = false) {
  const rgb = new Uint8Array(3 * (right - left) * (bottom - top));
  let to = 0;
  for (let y = top; y < bottom; y++) {
    for (let from = 4 * (y * width + left), end = 4 * (y * width + right); from < end; from += 4) {
      rgb[to++] = rgba[from];
      rgb[to++] = rgba[from + 1];
      rgb[to++] = rgba[from + 2];
    }
  }
  const shape = [bottom - top, right - left, 3];
  return new ort.Tensor("uint8", rgb, batch ? [1, ...shape] : shape);
}
