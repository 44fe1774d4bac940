// Runs the models beside the page, so that buttons and picture never wait: pixels come in, answers go out.

let ort, model, detector, names;
let rgb = new Uint8Array(0); // what pixels() fills, used again and again
let next = 0; // the face whose turn it is, where there is no time for all
let lastRead = -Infinity; // when a face was last read

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
  ort.env.wasm.wasmBinary = parts.wasm;
  // A host that isolates the page lends it threads, which start from the same script.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  ort.env.logLevel = "error";
  // Every face has its own size, and a plan of the memory would be kept for each.
  const options = { executionProviders: ["wasm"], enableMemPattern: false };
  model = await ort.InferenceSession.create(parts.model, options);
  detector = parts.detector && (await ort.InferenceSession.create(parts.detector, options));
  names = exports;
  // The first run prepares what all later ones use.
  await read({ rgba: new Uint8ClampedArray(4 * 64 * 64), width: 64, height: 64, box: [0, 0, 64, 64] });
  return {};
}

/**
 * Find and read the faces of a picture.
 * `rgba` holds its pixels. The detector sees every `step`th of them, or none where `box` is the face. After `budget`
 * milliseconds no further face is read, and none where that would read each more often than every `refresh`: those
 * have only a box and a score, and are the first in the next picture.
 */
async function read({ rgba, width, height, box, step = 1, budget = Infinity, refresh = 0 }) {
  const start = performance.now();
  const spent = () => performance.now() - start;
  const faces = box ? [{ box, score: 1 }] : await detect(pixels(rgba, width, [0, 0, width, height], step), step);
  const detecting = spent();
  const count = start - lastRead < refresh / faces.length ? 0 : faces.length;
  for (let read = 0; read < count && (read === 0 || spent() < budget); read++) {
    lastRead = start;
    const face = faces[next++ % faces.length];
    const outputs = await model.run({ faces: batched(pixels(rgba, width, face.box)) });
    for (const name of names) {
      const values = Array.from(outputs[name].data);
      face[name] = outputs[name].dims.length > 1 ? values : values[0];
    }
  }
  return { width, height, faces, detecting, milliseconds: spent() };
}

async function detect(picture, step) {
  const { boxes, scores } = await detector.run({ picture });
  const edges = Array.from(boxes.data, (edge) => step * Number(edge));
  return Array.from(scores.data, (score, row) => ({ box: edges.slice(4 * row, 4 * row + 4), score }));
}

/** Every `step`th pixel inside a box (left, top, right, bottom) as uint8 RGB (H, W, 3), until the next call. */
function pixels(rgba, width, [left, top, right, bottom], step = 1) {
  const [columns, rows] = [Math.floor((right - left) / step), Math.floor((bottom - top) / step)];
  const length = 3 * columns * rows;
  if (rgb.length < length) rgb = new Uint8Array(length);
  for (let row = 0, to = 0; row < rows; row++) {
    let from = 4 * ((top + step * row) * width + left);
    for (const end = from + 4 * step * columns; from < end; from += 4 * step) {
      rgb[to++] = rgba[from];
      rgb[to++] = rgba[from + 1];
      rgb[to++] = rgba[from + 2];
    }
  }
  return new ort.Tensor("uint8", rgb.subarray(0, length), [rows, columns, 3]);
}

/** A batch of one. */
const batched = (tensor) => tensor.reshape([1, ...tensor.dims]);
