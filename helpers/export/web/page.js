const FRAME = 640; // longer side in pixels of the camera's frames: asked for so, as reducing costs more than it saves
const FOUND = 160; // the least longer side in which the detector, which itself sees 128, looks for the camera's faces
const BUDGET = 30; // milliseconds of a frame after which no further face is read; in a picture all are
const LARGEST = 4096; // longer side of a picture; larger ones are reduced to it
const FADE = 300; // milliseconds until an answer of the camera counts 1/e in what is shown
const STEADY = 40; // the same of boxes
const KEEP = 600; // milliseconds for which a face that is not found again stays
const READ = 200; // milliseconds between two readings of a face; its box follows every frame
const REFRESH = 100; // milliseconds between new numbers and bars: faster cannot be read, and each costs a layout
const SPEAK = 3000; // milliseconds between the sentences for those who listen

const $ = (id) => document.getElementById(id);
const about = JSON.parse($("about").textContent);
const threshold = JSON.parse(about.model.threshold ?? "{}");
// Of the camera, one has the frame that is read, the other one the frame before, which is shown meanwhile.
const readable = () => document.createElement("canvas").getContext("2d", { willReadFrequently: true });
let [frame, other] = [readable(), readable()];
const picture = $("picture").getContext("2d");
// Never shown itself: the frame that was read is, so that boxes lie on the faces they were found at.
const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });

let worker, asked; // asked: how to settle what the worker works on
let line = Promise.resolve(); // of what the worker is asked, one after the other
let stream = null; // of the camera that runs
let turn = 0; // counts what was started: what an older one still answers is not shown
let paused = false;
let faces = []; // that are shown: {id, box, score, seen, what the model gives}
let chosen = null; // id of the face whose answers are shown
let size = { width: 4, height: 3 }; // of what is shown
let spoken = 0;
let written = 0; // when numbers and bars last changed
let rates = []; // times of the last answers

// ---------------------------------------------------------------- start

/** The bytes of a part of this page, unpacked. */
async function part(name) {
  const element = $(name);
  if (!element) return undefined;
  const text = element.textContent;
  element.remove();
  const packed = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Whether WebAssembly knows vectors: a function that returns one passes the browser's check. */
const knowsVectors = () =>
  typeof WebAssembly === "object" &&
  WebAssembly.validate(
    new Uint8Array([
      ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // "\0asm", version 1
      ...[1, 5, 1, 0x60, 0, 1, 0x7b], // a type: () -> v128
      ...[3, 2, 1, 0], // a function of it
      ...[10, 8, 1, 6, 0, 0x41, 0, 0xfd, 0x0f, 0x0b], // i32.const 0, i8x16.splat, end
    ]),
  );

async function start() {
  describe();
  layOut();
  if (!knowsVectors() || typeof DecompressionStream !== "function") {
    say("This browser is too old for this page (it lacks WebAssembly SIMD or DecompressionStream): use a current one.");
    return;
  }
  try {
    const names = ["worker", "ort", "wasm", "model", "detector"];
    const [code, ...rest] = await Promise.all(names.map(part));
    worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    worker.onmessage = ({ data }) => (data.error ? asked.reject(new Error(data.error)) : asked.resolve(data.answer));
    worker.onerror = ({ message }) => asked.reject(new Error(message || "its worker does not start"));
    const [ort, wasm, model, detector] = rest;
    about.detects = Boolean(detector);
    await ask({ parts: { ort, wasm, model, detector }, exports: about.exports });
  } catch (error) {
    say(`The model cannot be started in this browser (${error.message}): use a current one.`);
    return;
  }
  for (const id of ["camera", "choose"]) $(id).disabled = false;
  say("Start the camera, or choose, drop or paste a picture of a face.");
  document.documentElement.dataset.ready = Math.round(performance.now());
}

/** What the worker answers to a request. */
function ask(request, transfer = []) {
  const answer = line.then(
    () =>
      new Promise((resolve, reject) => {
        asked = { resolve, reject };
        worker.postMessage(request, transfer);
      }),
  );
  line = answer.catch(() => {});
  return answer;
}

// ---------------------------------------------------------------- camera

async function startCamera(device) {
  const mine = begin();
  if (!navigator.mediaDevices?.getUserMedia) {
    say("The browser lends a camera only to pages that are opened from the disk, from localhost or over https.");
    return;
  }
  say("Waiting for the camera: the browser asks whether this page may use it.");
  let opened;
  try {
    const which = device ? { deviceId: { exact: device } } : { facingMode: "user" };
    opened = await navigator.mediaDevices.getUserMedia({ video: { width: FRAME, height: 0.75 * FRAME, ...which } });
  } catch (error) {
    const why = {
      NotAllowedError: "The camera was refused: allow it beside the browser's address bar, or choose a picture.",
      NotFoundError: "No camera was found: connect one, or choose a picture.",
      NotReadableError: "The camera is used by another program: close that one, or choose a picture.",
    };
    if (mine === turn) say(why[error.name] ?? `The camera cannot be used (${error.message}): choose a picture.`);
    return;
  }
  if (mine !== turn) {
    for (const track of opened.getTracks()) track.stop();
    return;
  }
  stream = opened;
  const [track] = stream.getVideoTracks();
  track.onended = () => mine === turn && end("The camera was taken away: start it again, or choose a picture.");
  video.srcObject = stream;
  await video.play().catch(() => {});
  Object.assign($("picture"), { ...size, hidden: false });
  $("camera").textContent = "Stop camera";
  $("pause").disabled = false;
  $("mirror").checked = track.getSettings().facingMode !== "environment";
  say(about.detects ? "" : "This page has no face detector: bring one face close, into the square.");
  listCameras(track.getSettings().deviceId);
  drawBoxes();
  watch(mine).catch(({ message }) => mine === turn && end(`The camera's frame cannot be read (${message}).`));
}

/** Read frame after frame until something else is begun. */
async function watch(mine) {
  let next = nextFrame();
  let reveal; // shows the last answer, once
  for (;;) {
    if (!next.came) reveal = reveal?.();
    await next;
    if (mine !== turn) return;
    next = nextFrame(); // asked for before this one is read: what comes meanwhile is read at once
    if (paused || !video.videoWidth) continue;
    [frame, other] = [other, frame];
    const { width, height } = draw(video, video.videoWidth, video.videoHeight, FRAME);
    const { canvas } = frame;
    const { data } = frame.getImageData(0, 0, width, height);
    const side = Math.min(width, height);
    const [left, top] = [(width - side) >> 1, (height - side) >> 1];
    const box = about.detects ? undefined : [left, top, left + side, top + side];
    const step = Math.floor(Math.max(width, height) / FOUND) || 1;
    const reading = ask({ rgba: data, width, height, box, step, budget: BUDGET, refresh: READ }, [data.buffer]);
    reveal?.(); // while the worker reads
    const answer = await reading;
    reveal = () => {
      if (mine !== turn || paused) return;
      size = { width, height };
      showFrame(canvas);
      showRate(answer);
      follow(answer);
      publish("camera", answer);
    };
  }
}

/** Wait for the camera's next frame; a paused or hidden camera has none, so look now and then. */
function nextFrame() {
  const next = new Promise((resolve) => {
    setTimeout(resolve, 250);
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(resolve);
    else requestAnimationFrame(resolve);
  });
  next.then(() => (next.came = true));
  return next;
}

/** Offer the choice where there are several cameras; their names are known once one is allowed. */
async function listCameras(current) {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  $("cameras").hidden = cameras.length < 2;
  $("which").replaceChildren(
    ...cameras.map(({ label, deviceId }, at) => new Option(label || `Camera ${at + 1}`, deviceId)),
  );
  $("which").value = current;
}

/** Take the answers of a new frame into what is shown: the same face is the box that overlaps most. */
function follow({ faces: found }) {
  const now = performance.now();
  const keep = Math.max(KEEP, 2.5 * (now - (rates.at(-2) ?? now))); // the last of the rates is this frame's
  const old = faces.filter(({ seen }) => now - seen < keep);
  const ids = new Set(old.map(({ id }) => id));
  faces = [];
  for (const face of found) {
    const last = old.reduce((a, b) => (overlap(b.box, face.box) > overlap(a?.box, face.box) ? b : a), null);
    const same = overlap(last?.box, face.box) > 0.3;
    const read = about.exports[0] in face;
    if (!same && !read) continue; // its turn comes
    const shown = same ? { ...last } : { ...face, id: 1 };
    if (same) old.splice(old.indexOf(last), 1);
    else while (ids.has(shown.id)) shown.id++;
    ids.add(shown.id);
    shown.box = same ? mix(last.box, face.box, now - last.seen, STEADY) : face.box;
    shown.seen = now;
    if (read) {
      for (const name of same ? about.exports : []) shown[name] = mix(last[name], face[name], now - last.read, FADE);
      shown.read = now;
    }
    faces.push(shown);
  }
  faces.push(...old);
  faces.sort((a, b) => a.id - b.id);
  show(false);
}

/** The mean of what was shown and what is new: after `fade` of time that passed, the old counts 1/e. */
function mix(old, value, passed, fade) {
  if (Array.isArray(old)) return old.map((each, at) => mix(each, value[at], passed, fade));
  const kept = Math.exp(-passed / fade);
  return kept * old + (1 - kept) * value;
}

/** Intersection over union of two boxes. */
function overlap(a, b) {
  if (!a) return 0;
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const shared = Math.max(0, width) * Math.max(0, height);
  return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared);
}

/** Frames per second over the last ones. */
function showRate({ milliseconds }) {
  rates = [...rates.slice(-30), performance.now()];
  if (rates.length < 3) return;
  window.framesPerSecond = (1000 * (rates.length - 1)) / (rates.at(-1) - rates[0]);
  if (!due()) return;
  const rate = window.framesPerSecond.toFixed(window.framesPerSecond < 10 ? 1 : 0);
  $("rate").textContent = `${rate} frames/s · ${milliseconds.toFixed(0)} ms each`;
}

// ---------------------------------------------------------------- pictures

/** Read a picture; `whole` takes all of it as one face. */
async function readPicture(file, whole = !about.detects) {
  const mine = begin();
  say("Reading the picture …");
  let bitmap;
  try {
    if (!file.size) throw new Error("it is empty");
    // Turned upright as its camera says; its colours as they are stored, which the model learned from.
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch (error) {
    const name = file.name ? `“${file.name}”` : "What was given";
    const why = file.size ? "it is damaged, or of a kind that this browser does not know" : "it is empty";
    if (mine === turn) say(`${name} cannot be read as a picture (${why}): choose a JPEG or PNG file.`);
    return;
  }
  if (mine !== turn) return;
  try {
    size = draw(bitmap, bitmap.width, bitmap.height, LARGEST);
    const pixels = frame.getImageData(0, 0, size.width, size.height);
    showFrame(frame.canvas);
    $("picture").hidden = false;
    const box = whole ? [0, 0, size.width, size.height] : undefined;
    const answer = await ask({ rgba: pixels.data, ...size, box }, [pixels.data.buffer]);
    if (mine !== turn) return;
    faces = answer.faces.map((face, at) => ({ ...face, id: at + 1 }));
    say("");
    if (!faces.length) {
      say("No face was found; one below a fifth of the picture's width is not seen here.");
      $("whole").hidden = false;
      $("whole").onclick = () => readPicture(file, true);
    } else if (whole) {
      say("The whole picture was read as one face: the answers hold only if one face fills it.");
    }
    $("rate").textContent = `${answer.milliseconds.toFixed(0)} ms`;
    show(true);
    publish("picture", answer, { whole });
  } catch (error) {
    if (mine === turn) say(`The picture cannot be read (${error.message}): try a smaller one.`);
  }
}

/** Put a picture or a frame on the canvas that pixels are read from, its longer side at most `longest`. */
function draw(source, width, height, longest) {
  const scale = Math.min(1, longest / Math.max(width, height));
  const drawn = { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
  if (frame.canvas.width !== drawn.width || frame.canvas.height !== drawn.height) Object.assign(frame.canvas, drawn);
  frame.imageSmoothingQuality = scale < 1 ? "high" : "low"; // a frame as large as asked for is only copied
  frame.fillStyle = "white"; // below what is transparent
  frame.fillRect(0, 0, drawn.width, drawn.height);
  frame.drawImage(source, 0, 0, drawn.width, drawn.height);
  return drawn;
}

/** Show what was drawn by draw(). */
function showFrame(drawn) {
  if (picture.canvas.width !== size.width || picture.canvas.height !== size.height) Object.assign(picture.canvas, size);
  picture.drawImage(drawn, 0, 0);
}

// ---------------------------------------------------------------- what is shown

/** Stop what runs and empty what is shown; returns the number of what begins. */
function begin() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = video.srcObject = null;
  $("picture").hidden = $("whole").hidden = true;
  [faces, rates, chosen, spoken, paused] = [[], [], null, 0, false];
  window.lastAnswers = window.framesPerSecond = undefined;
  $("camera").textContent = "Start camera";
  $("pause").textContent = "Pause";
  $("pause").disabled = true;
  $("cameras").hidden = true;
  $("rate").textContent = "";
  show(true);
  return ++turn;
}

/** Stop what runs, and say why. */
function end(sentence) {
  begin();
  say(sentence);
}

/** One sentence on the stage: in its middle while there is nothing else to see. */
function say(sentence) {
  $("message").textContent = sentence;
  $("notice").classList.toggle("middle", $("picture").hidden);
}

/** Keep the model's answers for whoever asks the page by a program. */
function publish(source, answer, more = {}) {
  window.lastAnswers = { source, ...more, ...answer };
}

const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
const word = (text) => text[0].toUpperCase() + text.slice(1);
const argmax = (values) => values.indexOf(Math.max(...values));
const ranges = (task) => about.exports.find((name) => name === `${task.name}_range`);

/** A new element with a class and a text. */
function make(tag, name = "", text = "") {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}

/** Build the panel of answers once; show() only changes numbers and bars in it. */
function layOut() {
  for (const task of about.tasks) {
    const section = make("section", "task");
    const heading = make("h2", "", word(task.name));
    task.unsure = make("small", "", "unsure");
    task.threshold = threshold[task.name] ?? 0;
    heading.append(task.unsure);
    section.append(heading);
    if (task.classes) {
      const list = make("ul");
      task.rows = task.classes.map((name) => {
        const row = make("li");
        const track = make("span", "track");
        row.bar = make("span", "bar");
        row.share = make("span", "share", "–");
        track.ariaHidden = "true";
        track.append(row.bar);
        row.append(make("span", "", name), track, row.share);
        list.append(row);
        return row;
      });
      section.append(list);
    } else {
      const years = make("div", "years");
      task.value = make("b", "", "–");
      task.range = make("span");
      years.append(task.value, task.range);
      const track = make("div", "track");
      track.ariaHidden = "true";
      task.bar = make("span", "bar");
      task.mark = make("span", "mark");
      track.append(task.bar, task.mark);
      const scale = make("div", "scale");
      scale.ariaHidden = "true";
      scale.append(...[0, 25, 50, 75, 100].map((year) => make("span", "", year)));
      section.append(years, track, scale);
    }
    $("panel").append(section);
  }
  show(true);
}

const due = () => performance.now() - written > REFRESH;

/** Show the faces: boxes, and where it is due or `atOnce`, buttons and the chosen one's answers, told to a listener. */
function show(atOnce) {
  if (!faces.some(({ id }) => id === chosen)) chosen = faces[0]?.id ?? null;
  drawBoxes();
  if (!atOnce && !due()) return;
  written = performance.now();
  const face = faces.find(({ id }) => id === chosen);
  for (const task of about.tasks) {
    const value = face?.[task.name];
    task.unsure.hidden = !face || !unsure(task, face);
    if (task.rows) {
      const best = value ? argmax(value) : -1;
      task.rows.forEach((row, at) => {
        row.className = at === best ? "top" : "";
        row.bar.style.transform = `scaleX(${value?.[at] ?? 0})`;
        row.share.textContent = value ? percent(value[at]) : "–";
      });
    } else if (task.value) {
      const [low, high] = face?.[ranges(task)] ?? [0, 0];
      task.value.textContent = face ? `${value.toFixed(0)} ${task.unit}` : "–";
      const known = high - low < 100; // otherwise the model's ranges were not measured
      task.range.textContent = !face || !known ? "" : `8 of 10 are ${low.toFixed(0)} to ${high.toFixed(0)}`;
      const [from, to] = known ? [Math.min(low, 100), Math.min(high, 100)] : [0, 0];
      task.bar.style.transform = `translateX(${from}%) scaleX(${(to - from) / 100})`;
      task.mark.hidden = !face;
      task.mark.style.left = `${Math.min(value ?? 0, 100)}%`;
    }
  }
  showButtons(atOnce);
  if (atOnce || performance.now() - spoken > SPEAK) {
    spoken = performance.now();
    const told = faces.map((face) => `Face ${face.id}: ${inWords(face)}.`).join(" ");
    $("said").textContent = told || (stream && !paused ? "No face is seen." : "");
  }
}

/** Whether evaluation found such an answer too seldom right. */
const unsure = (task, face) => Boolean(task.classes) && Math.max(...face[task.name]) < task.threshold;

/** A face's answers in a few words. */
const inWords = (face) =>
  about.tasks
    .map((task) => {
      const { name, classes, unit } = task;
      if (!classes) return `${face[name].toFixed(0)} ${unit}`;
      if (unsure(task, face)) return `${name} unsure`;
      const at = argmax(face[name]);
      return `${classes[at]} ${percent(face[name][at])}`;
    })
    .join(", ");

/** A button with a small picture for each face; made anew only when the faces are others. */
function showButtons(atOnce) {
  const box = $("faces");
  const ids = faces.map(({ id }) => id).join();
  const others = box.dataset.ids !== ids;
  if (others) {
    box.dataset.ids = ids;
    box.replaceChildren(
      ...faces.map(({ id }) => {
        const button = make("button");
        button.type = "button";
        button.ariaLabel = `Face ${id}`;
        button.onclick = () => choose(id);
        button.append(Object.assign(document.createElement("canvas"), { width: 100, height: 100 }));
        return button;
      }),
    );
    if (!faces.length) box.append(make("p", "", "The faces that are found appear here."));
  }
  const now = performance.now();
  const due = atOnce || others || now - (box.drawn ?? 0) > 500;
  if (due) box.drawn = now;
  faces.forEach(({ id, box: [left, top, right, bottom] }, at) => {
    const button = box.children[at];
    button.ariaPressed = String(id === chosen);
    const context = due && button.firstChild.getContext("2d");
    if (context) context.drawImage(picture.canvas, left, top, right - left, bottom - top, 0, 0, 100, 100);
  });
}

function choose(id) {
  chosen = id;
  show(true);
}

/** Where the picture lies on the stage: factor and offsets from its pixels to the stage's. */
function placed() {
  const { clientWidth, clientHeight } = $("stage");
  const scale = Math.min(clientWidth / size.width, clientHeight / size.height);
  return [scale, (clientWidth - scale * size.width) / 2, (clientHeight - scale * size.height) / 2];
}

/** A face's box on the stage: left, top, width, height. */
function onStage({ box: [left, top, right, bottom] }) {
  const [scale, x, y] = placed();
  const from = mirrored() ? size.width - right : left;
  return [x + scale * from, y + scale * top, scale * (right - left), scale * (bottom - top)];
}

const mirrored = () => Boolean(stream) && $("mirror").checked;

function drawBoxes() {
  const canvas = $("boxes");
  const { clientWidth, clientHeight } = canvas;
  const sharp = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(clientWidth * sharp), Math.round(clientHeight * sharp)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  $("stage").classList.toggle("mirrored", mirrored());
  const context = canvas.getContext("2d");
  context.setTransform(sharp, 0, 0, sharp, 0, 0);
  context.clearRect(0, 0, clientWidth, clientHeight);
  if (!$("show").checked) return;
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--box");
  context.font = "600 14px system-ui, sans-serif";
  context.textBaseline = "middle";
  for (const face of faces) {
    const [left, top, wide, high] = onStage(face);
    const line = face.id === chosen ? 3 : 1.5;
    context.lineWidth = line + 2;
    context.strokeStyle = "#0008";
    context.strokeRect(left, top, wide, high);
    context.lineWidth = line;
    context.strokeStyle = colour;
    context.strokeRect(left, top, wide, high);
    const task = about.tasks.find(({ classes }) => classes);
    const text = `${face.id} ${unsure(task, face) ? "unsure" : task.classes[argmax(face[task.name])]}`;
    const label = context.measureText(text).width + 12;
    const x = Math.max(0, Math.min(left - line / 2, clientWidth - label));
    const y = Math.max(0, top - 22);
    context.fillStyle = colour;
    context.fillRect(x, y, label, 22);
    context.fillStyle = "#1c2430";
    context.fillText(text, x + 6, y + 11.5);
  }
}

/** The model's terms, as its own metadata say them. */
function describe() {
  const { model } = about;
  const drawn = /drawn faces/.test(model.trained_on);
  const rows = {
    "Learned from": model.trained_on?.replaceAll(",", ", ") + (drawn ? ": its answers about people mean nothing" : ""),
    "Terms of the data": model.terms_of_the_data,
    "Started from": model.started_from,
    Network: model.backbone,
    "Weights (SHA-256)": model.weights,
  };
  for (const [name, text] of Object.entries(rows)) {
    if (text) $("terms").append(make("dt", "", name), make("dd", "", text));
  }
  $("commercial").hidden = !/non-?commercial/i.test(`${model.terms_of_the_data} ${model.started_from}`);
}

// ---------------------------------------------------------------- buttons, dropping, pasting

$("camera").onclick = () => {
  if (!stream) return startCamera();
  end("The camera is off. Start it again, or choose, drop or paste a picture of a face.");
};
$("which").onchange = ({ target }) => startCamera(target.value);
$("pause").onclick = () => {
  paused = !paused;
  $("pause").textContent = paused ? "Go on" : "Pause";
  rates = [];
  if (paused) video.pause();
  else video.play();
};
$("choose").onclick = () => $("file").click();
$("file").onchange = ({ target }) => {
  take(target.files);
  target.value = ""; // so that the same file can be chosen again
};
for (const id of ["show", "mirror"]) $(id).onchange = drawBoxes;
$("boxes").onclick = ({ offsetX, offsetY }) => {
  const hit = faces.find((face) => {
    const [left, top, wide, high] = onStage(face);
    return offsetX >= left && offsetX <= left + wide && offsetY >= top && offsetY <= top + high;
  });
  if (hit) choose(hit.id);
};

function take(files) {
  if (files?.length && !$("choose").disabled) readPicture(files[0]);
}

addEventListener("dragover", (event) => {
  event.preventDefault();
  $("stage").classList.add("over");
});
addEventListener("dragleave", () => $("stage").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("stage").classList.remove("over");
  take(event.dataTransfer.files);
});
addEventListener("paste", ({ clipboardData }) => take(clipboardData?.files));
new ResizeObserver(drawBoxes).observe($("stage"));

start();
