import { drawMask, maskOf } from "./rle.js";

const GRID_PX = 400, VIEW_PX = 1024;
const $ = (id) => document.getElementById(id);
const pictures = new Map(); // address to ImageBitmap
let lastUpload = null;
let asked = 0; // answers to earlier questions are dropped

// ---- the service

async function call(method, path, body) {
  const headers = {};
  const key = sessionStorage.getItem("segdex-key");
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body && !(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  const response = await fetch(path, { method, headers, body });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    if (response.status === 401) $("key").focus();
    throw new Error(problem.detail ?? `the service answers with ${response.status}`);
  }
  return response;
}

const json = async (...request) => (await call(...request)).json();

async function picture(imageId, px) {
  const path = `/v1/images/${imageId}/file?max_px=${px}`;
  if (!pictures.has(path)) {
    if (pictures.size > 200) pictures.delete(pictures.keys().next().value);
    pictures.set(path, call("GET", path).then((r) => r.blob()).then(createImageBitmap));
  }
  return pictures.get(path);
}

// ---- the hits

function question() {
  const words = $("text").value.trim().split(/\s+/);
  const away = words.filter((word) => /^-\S/.test(word)).map((word) => word.slice(1));
  const text = words.filter((word) => !/^-\S/.test(word)).join(" ");
  return { texts: text ? [text] : [], away };
}

function conditions() {
  const tag = $("tag").value.trim();
  return {
    limit: 24,
    per_image: Number($("per-image").value) || 3,
    present: $("present").checked,
    where: { min_area: (Number($("min-area").value) || 0) / 100, tags: tag ? [tag] : [] },
  };
}

async function show(what, promise) {
  const mine = ++asked;
  say("Searching…");
  try {
    const answer = await promise;
    if (mine !== asked) return;
    const found = answer.hits.flatMap((hit) => hit.segments.map((segment) => ({ hit, segment, answer })));
    found.sort((a, b) => b.segment.score - a.segment.score);
    const took = Object.values(answer.timings_ms).reduce((sum, ms) => sum + ms, 0);
    say(found.length
      ? `${found.length} things in ${answer.hits.length} pictures for ${what}, ${Math.round(took)} ms, by ${answer.embedder}`
      : `Not there: no picture stands out for ${what}.`);
    $("hits").replaceChildren(...found.map(card));
  } catch (error) {
    if (mine === asked) say(error.message, true);
  }
}

function card({ hit, segment, answer }) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const canvas = document.createElement("canvas");
  const scale = GRID_PX / Math.max(hit.image.width, hit.image.height);
  canvas.width = Math.max(1, Math.round(hit.image.width * scale));
  canvas.height = Math.max(1, Math.round(hit.image.height * scale));
  canvas.setAttribute("aria-hidden", "true");
  const name = hit.image.path.split("/").pop();
  const caption = document.createElement("span");
  caption.className = "caption";
  const score = document.createElement("strong");
  score.textContent = segment.score.toFixed(3);
  const label = document.createElement("span");
  label.className = "name";
  label.textContent = name;
  caption.append(score, label);
  button.append(canvas, caption);
  button.addEventListener("click", () => open(hit.image, segment, answer));
  item.append(button);
  paint(canvas, hit.image, $("masks").checked ? segment.rle : null, GRID_PX).catch((error) => {
    label.textContent = error.message;
  });
  canvas.redraw = () => paint(canvas, hit.image, $("masks").checked ? segment.rle : null, GRID_PX);
  return item;
}

async function paint(canvas, image, rle, px) {
  const bitmap = await picture(image.image_id, px);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  if (rle) drawMask(context, rle);
}

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

// ---- one picture

const view = { image: null, segments: [], current: null, answer: null, points: [], drag: null };

async function open(image, segment, answer) {
  Object.assign(view, { image, segments: [segment], current: segment, answer, points: [], drag: null });
  const scale = Math.min(1, VIEW_PX / Math.max(image.width, image.height));
  $("canvas").width = Math.round(image.width * scale);
  $("canvas").height = Math.round(image.height * scale);
  $("viewer-title").textContent = image.path.split("/").pop();
  $("viewer").showModal();
  await redraw();
  try {
    const all = await json("GET", `/v1/images/${image.image_id}/segments`);
    view.segments = [segment, ...all.filter((one) => one.segment_id !== segment.segment_id)];
    view.masks = new Map(); // made when the pointer first asks
  } catch (error) {
    tell(error.message, true);
  }
}

async function redraw() {
  const canvas = $("canvas"), { image, current } = view;
  await paint(canvas, image, current?.rle ?? null, VIEW_PX);
  const context = canvas.getContext("2d");
  const scale = canvas.width / image.width;
  for (const point of view.points) {
    context.beginPath();
    context.arc(point.x * scale, point.y * scale, 6, 0, 7);
    context.fillStyle = point.label ? "#2ecc71" : "#e74c3c";
    context.fill();
    context.strokeStyle = "white";
    context.stroke();
  }
  if (view.drag) {
    context.strokeStyle = "#ffc400";
    context.lineWidth = 2;
    const [x1, y1, x2, y2] = view.drag.map((edge) => edge * scale);
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  const known = Boolean(current?.segment_id);
  $("similar").disabled = !known;
  $("refine").disabled = !known || !view.answer;
  if (current) {
    tell(`${((100 * current.area_px) / (image.width * image.height)).toFixed(1)} % of the picture, predicted IoU ${current.predicted_iou.toFixed(2)}${current.note ? `; ${current.note}` : ""}`);
    downloads();
  }
}

function tell(text, isError = false) {
  $("about").textContent = text;
  $("about").classList.toggle("error", isError);
}

function full() {
  const { image, current } = view;
  return { mask: maskOf(current.rle, image.width, image.height), width: image.width, height: image.height };
}

/** The three files are made here, so that a mask that no index knows can be saved as well. */
function downloads() {
  const { image, current } = view;
  const annotation = { image: image.path.split("/").pop(), size_wh: [image.width, image.height], bbox_xyxy: current.box_xyxy, area: current.area_px, segmentation: current.rle };
  $("coco").href = `data:application/json,${encodeURIComponent(JSON.stringify(annotation))}`;
  for (const id of ["mask", "cutout"]) $(id).removeAttribute("href");
}

async function makeFile(id) {
  const { mask, width, height } = full();
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  if (id === "cutout") context.drawImage(await picture(view.image.image_id, 4096), 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  for (let at = 0; at < mask.length; at++) {
    if (id === "mask") pixels.data.fill(mask[at] ? 255 : 0, 4 * at, 4 * at + 3);
    pixels.data[4 * at + 3] = id === "mask" || mask[at] ? 255 : 0;
  }
  context.putImageData(pixels, 0, 0);
  let [x1, y1, x2, y2] = id === "cutout" ? view.current.box_xyxy : [0, 0, width, height];
  const out = document.createElement("canvas");
  Object.assign(out, { width: x2 - x1, height: y2 - y1 });
  out.getContext("2d").drawImage(canvas, -x1, -y1);
  return URL.createObjectURL(await new Promise((done) => out.toBlob(done, "image/png")));
}

function place(event) {
  const canvas = $("canvas"), box = canvas.getBoundingClientRect();
  const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  const limit = (value, size) => Math.min(Math.max(value * size, 0), size - 1);
  return { x: limit(share[0], view.image.width), y: limit(share[1], view.image.height) };
}

const mode = () => document.querySelector("input[name=mode]:checked").value;

/** The smallest thing under the pointer. */
function under({ x, y }) {
  const width = $("canvas").width, height = $("canvas").height;
  const at = Math.floor((y / view.image.height) * height) * width + Math.floor((x / view.image.width) * width);
  let best = null;
  for (const segment of view.segments) {
    const [x1, y1, x2, y2] = segment.box_xyxy;
    if (x < x1 || x >= x2 || y < y1 || y >= y2) continue;
    if (!view.masks.has(segment)) view.masks.set(segment, maskOf(segment.rle, width, height));
    if (view.masks.get(segment)[at] && (!best || segment.area_px < best.area_px)) best = segment;
  }
  return best;
}

async function prompt(request, note) {
  tell("Cutting out…");
  try {
    const answer = await json("POST", "/v1/segment", { image_id: view.image.image_id, ...request });
    view.current = { ...answer.masks[0], note };
    await redraw();
  } catch (error) {
    await redraw();
    tell(error.message, true);
  }
}

$("canvas").addEventListener("pointermove", (event) => {
  if (view.drag) {
    const { x, y } = place(event);
    view.drag = [view.drag[0], view.drag[1], x, y];
    redraw();
  } else if (mode() === "look" && view.masks) {
    const found = under(place(event));
    if (found && found !== view.current) {
      view.current = found;
      redraw();
    }
  }
});
$("canvas").addEventListener("pointerdown", (event) => {
  const { x, y } = place(event);
  if (mode() === "box") {
    view.drag = [x, y, x, y];
    $("canvas").setPointerCapture(event.pointerId);
  } else if (mode() !== "look") {
    view.points.push({ x, y, label: mode() === "point" ? 1 : 0 });
    prompt({ points: view.points }, "cut out by points");
  }
});
$("canvas").addEventListener("pointerup", () => {
  if (!view.drag) return;
  const [x1, y1, x2, y2] = view.drag;
  view.drag = null;
  const box = [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
  if (box[2] - box[0] > 2 && box[3] - box[1] > 2) prompt({ box_xyxy: box }, "cut out by a box");
});
$("canvas").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const at = view.segments.indexOf(view.current);
  view.current = view.segments[(at + step + view.segments.length) % view.segments.length];
  redraw();
});
for (const radio of document.querySelectorAll("input[name=mode]")) {
  radio.addEventListener("change", () => {
    if (mode() === "look" || mode() === "box") view.points = [];
    redraw();
  });
}
$("close").addEventListener("click", () => $("viewer").close());
$("similar").addEventListener("click", () => {
  $("viewer").close();
  show("things like this one", json("POST", "/v1/search", { ...conditions(), present: false, segment_ids: [view.current.segment_id] }));
});
$("refine").addEventListener("click", async () => {
  tell("Refining…");
  try {
    const { refinements } = await json("POST", `/v1/search/${view.answer.id}/refine?first=20`);
    const mine = refinements.find((one) => one.segment_id === view.current.segment_id);
    if (!mine) tell("this thing is not among the first 20 hits");
    else if (mine.answer === "kept") tell(`kept: ${mine.reason}`);
    else {
      view.current = { ...mine, note: `refined: ${mine.reason}` };
      await redraw();
    }
  } catch (error) {
    tell(error.message, true);
  }
});
for (const id of ["mask", "cutout"]) {
  $(id).addEventListener("click", async (event) => {
    if ($(id).hasAttribute("href") || !view.current) return;
    event.preventDefault();
    $(id).href = await makeFile(id);
    $(id).click();
  });
}

// ---- jobs

const jobRows = new Map(); // id to the parts of its line

function jobRow(id) {
  if (!jobRows.has(id)) {
    const [item, title, bar, note, stop] = ["li", "strong", "progress", "p", "button"].map((name) => document.createElement(name));
    note.className = "note";
    stop.type = "button";
    stop.textContent = "Stop";
    stop.addEventListener("click", () => jobAction(json("DELETE", `/v1/jobs/${id}`)));
    item.append(title, stop, bar, note);
    jobRows.set(id, { item, title, bar, note, stop });
  }
  return jobRows.get(id);
}

async function showJobs() {
  const jobs = await json("GET", "/v1/jobs");
  for (const job of jobs) {
    const row = jobRow(job.id);
    row.title.textContent = job.paths.join(", ");
    row.bar.max = job.total ?? 1;
    row.bar.value = job.done;
    row.bar.setAttribute("aria-label", `progress of ${job.paths.join(", ")}`);
    row.stop.hidden = !["waiting", "running"].includes(job.status);
    const counts = Object.entries(job.counts).map(([name, count]) => `${count} ${name}`).join(", ");
    const left = job.status === "running" && job.left_s ? `, about ${Math.ceil(job.left_s)} s left` : "";
    row.note.textContent = [`${job.status}: ${job.done} of ${job.total ?? "?"} files${left}`, counts, job.segments && `${job.segments} things`, job.detail].filter(Boolean).join("; ");
  }
  const items = jobs.map((job) => jobRow(job.id).item);
  if (items.some((item, at) => $("job-list").children[at] !== item)) $("job-list").replaceChildren(...items);
  if (!$("job-status").classList.contains("error")) tellJob(jobs.length ? "" : "No jobs yet.");
}

function tellJob(text, isError = false) {
  $("job-status").textContent = text;
  $("job-status").classList.toggle("error", isError);
}

async function jobAction(promise) {
  try {
    await promise;
    tellJob("");
    await showJobs();
  } catch (error) {
    tellJob(error.message, true);
  }
}

$("show-jobs").addEventListener("click", () => {
  $("jobs").showModal();
  const look = () => {
    if (!$("jobs").open) return;
    showJobs().catch((error) => tellJob(error.message, true)).finally(() => setTimeout(look, 1000));
  };
  look();
});
$("close-jobs").addEventListener("click", () => $("jobs").close());
$("add-job").addEventListener("submit", (event) => {
  event.preventDefault();
  jobAction(json("POST", "/v1/jobs", { paths: [$("job-path").value.trim()] }));
});

// ---- asking

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const { texts, away } = question();
  if (!texts.length) return say("Say what to look for, such as: red umbrella", true);
  show(`“${$("text").value.trim()}”`, json("POST", "/v1/search", { ...conditions(), texts, away }));
});
$("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  $("search").requestSubmit();
});
$("masks").addEventListener("change", () => {
  for (const canvas of document.querySelectorAll("#hits canvas")) canvas.redraw();
});
$("file").addEventListener("change", () => byPicture($("file").files[0]));

function byPicture(file) {
  if (!file) return;
  lastUpload = file;
  $("upload").hidden = false;
  const form = new FormData();
  form.append("file", file);
  form.append("limit", "24");
  form.append("per_image", $("per-image").value);
  show(`the picture ${file.name}`, json("POST", "/v1/search/by-image", form));
}

$("upload").addEventListener("click", async () => {
  const form = new FormData();
  form.append("file", lastUpload);
  say("Cutting the picture into things; this takes some seconds…");
  try {
    const done = await json("POST", "/v1/images", form);
    say(`${lastUpload.name}: ${done.outcome}${done.detail ? `, ${done.detail}` : ""}`, !done.image_id);
  } catch (error) {
    say(error.message, true);
  }
});
$("key").addEventListener("click", () => {
  const key = window.prompt("API key (kept until this tab is closed)", "");
  if (key !== null) sessionStorage.setItem("segdex-key", key.trim());
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !$("viewer").open && !/INPUT|TEXTAREA/.test(document.activeElement.tagName)) {
    event.preventDefault();
    $("text").focus();
  }
});
for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", type === "dragover");
    if (type === "drop") byPicture(event.dataTransfer.files[0]);
  });
}
