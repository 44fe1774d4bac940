/* As peers_in_python.py, for readers of faces that run in Node: `node peers_in_node.cjs NAME FACES ANSWERS`, started in
 * the folder that holds their node_modules. */
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { createRequire } = require("node:module");

const modules = path.join(process.cwd(), "node_modules");
const need = createRequire(path.join(modules, "from-here.cjs"));
const tf = need("@tensorflow/tfjs");
const { PNG } = need("pngjs");

/* A tensor's numbers; what was made on the way is let go. */
const numbers = (make) => tf.tidy(() => [make()].flat().map((tensor) => Array.from(tensor.dataSync())));
const labelled = (words, values) => Object.fromEntries(words.map((word, place) => [`p_${word}`, values[place]]));

/* A reader: which tasks, how. Of a face it is asked no more than the tasks of which the face has a label. */
async function faceApi() {
  const api = need("@vladmandic/face-api/dist/face-api.node-wasm.js");
  const { faceExpressionNet, ageGenderNet } = api.nets;
  for (const net of [faceExpressionNet, ageGenderNet]) {
    await net.loadFromDisk(path.join(modules, "@vladmandic/face-api/model"));
  }
  const emotion = async (face) => {
    const found = { ...(await faceExpressionNet.predictExpressions(face)) };
    return labelled(Object.keys(found), Object.values(found));
  };
  const description = async (face) => {
    const { age, gender, genderProbability } = await ageGenderNet.predictAgeAndGender(face);
    const male = gender === "male" ? genderProbability : 1 - genderProbability;
    return { p_male: male, p_female: 1 - male, age };
  };
  return [[["emotion"], emotion], [["age", "gender"], description]];
}

/* The networks of `human` alone, with the preparation of its src/gear/emotion.ts and src/face/faceres.ts: it cannot be
 * told where the face is, and its detector is made for pictures that a face does not fill. */
async function human() {
  const open = (name) => {
    const file = path.join(modules, "@vladmandic/human/models", name);
    const { modelTopology, weightsManifest: [{ weights }], ...more } = JSON.parse(fs.readFileSync(`${file}.json`));
    const weightData = new Uint8Array(fs.readFileSync(`${file}.bin`)).buffer;
    return tf.loadGraphModel({ load: async () => ({ modelTopology, weightSpecs: weights, weightData, ...more }) });
  };
  const [expression, faceres] = [await open("emotion"), await open("faceres")];
  const words = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];
  const resized = (face, model) => face.toFloat().expandDims(0).resizeBilinear(model.inputs[0].shape.slice(1, 3));
  const emotion = async (face) => {
    const [found] = numbers(() => {
      const grey = resized(face, expression).div(255).mul([0.2989, 0.587, 0.114]).sum(3, true);
      return expression.execute(grey.sub(0.5).mul(2));
    });
    return labelled(words, found);
  };
  const description = async (face) => {
    const found = numbers(() => faceres.execute(resized(face, faceres)));
    const [male] = found.find((values) => values.length === 1);
    const years = found.find((values) => values.length === 100);
    const peak = years.indexOf(Math.max(...years));
    const [before, after] = [years[peak - 1], years[peak + 1]];
    const age = before > after ? peak - 10 * before : peak + 10 * after;
    return { p_male: male, p_female: 1 - male, age };
  };
  return [[["emotion"], emotion], [["age", "gender"], description]];
}

async function main([name, folder, to]) {
  const wasm = need("@tensorflow/tfjs-backend-wasm");
  wasm.setWasmPaths(path.join(modules, "@tensorflow/tfjs-backend-wasm/dist/"));
  wasm.setThreadsCount(1);
  if (!(await tf.setBackend("wasm"))) throw new Error("the WebAssembly backend of tfjs does not start");
  const parts = await { "face-api": faceApi, human }[name]();
  fs.writeFileSync(to, "");
  for (const { row, tasks } of JSON.parse(fs.readFileSync(path.join(folder, "faces.json")))) {
    const { data, width, height } = PNG.sync.read(fs.readFileSync(path.join(folder, `${row}.png`)));
    const rgb = Int32Array.from(data.filter((value, place) => place % 4 < 3));
    const asked = parts.filter(([read]) => read.some((task) => tasks.includes(task)));
    const answer = { row };
    const start = process.cpuUsage();
    const face = tf.tensor3d(rgb, [height, width, 3], "int32");
    for (const [, ask] of asked) Object.assign(answer, await ask(face));
    const { user, system } = process.cpuUsage(start);
    face.dispose();
    fs.appendFileSync(to, `${JSON.stringify({ ...answer, ms: (user + system) / 1000 })}\n`);
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
