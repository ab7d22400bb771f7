// One picture with its segments: look, point, box, refine, save.

import { refined } from "./question.js";
import { drawMasks, maskOf } from "./rle.js";
import { $, begin, blob, drawPicture, fileName, json, picture, tell } from "./service.js";

const VIEW_PX = 1024;
const view = { image: null, segments: [], current: null, question: null, points: [], drag: null, masks: null };

/** How masks are to be drawn. */
export const look = () => ({ tint: $("masks").checked, outline: $("outlines").checked });

/** Open a picture at the first of its hits for a question. */
export async function open(image, hits, question) {
  const isNewest = begin("viewer");
  begin("about"); // answers for the picture before come too late
  Object.assign(view, { image, segments: hits, current: hits[0], question, points: [], drag: null, masks: null });
  const scale = Math.min(1, VIEW_PX / Math.max(image.width, image.height));
  $("canvas").width = Math.max(1, Math.round(image.width * scale));
  $("canvas").height = Math.max(1, Math.round(image.height * scale));
  $("viewer-title").textContent = fileName(image);
  $("viewer").showModal();
  try {
    await redraw();
    const all = await json("GET", `v1/images/${image.id}/segments`);
    if (!isNewest()) return;
    const known = new Set(hits.map((one) => one.id));
    view.segments = [...hits, ...all.filter((one) => !known.has(one.id))];
    view.masks = new Map(); // made when the pointer first asks
  } catch (error) {
    if (isNewest()) tell("about", error.message, true);
  }
}

async function redraw() {
  const canvas = $("canvas"), { image, current } = view;
  const context = await drawPicture(canvas, image.id, VIEW_PX, () => view.image === image && view.current === current);
  if (!context) return; // another one was opened or chosen meanwhile
  if (current) drawMasks(context, [current.rle], look());
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
  $("similar").disabled = !current?.area_px;
  $("refine").disabled = !current?.id;
  for (const id of ["mask", "cutout", "coco"]) $(id).disabled = !current?.area_px;
  if (!current) return;
  const share = ((100 * current.area_px) / (image.width * image.height)).toFixed(1);
  const score = current.score === undefined ? "" : `score ${current.score.toFixed(3)}, `;
  tell("about", `${score}${share} % of the picture, predicted IoU ${current.predicted_iou.toFixed(2)}${current.note ? `; ${current.note}` : ""}`);
}

// ---- pointing

function place(event) {
  const box = $("canvas").getBoundingClientRect();
  const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  const limit = (value, size) => Math.min(Math.max(value * size, 0), size - 1);
  return { x: limit(share[0], view.image.width), y: limit(share[1], view.image.height) };
}

const mode = () => document.querySelector("input[name=mode]:checked").value;

/** The smallest segment under the pointer. */
function under({ x, y }) {
  const { width, height } = $("canvas");
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

async function prompt(request, note, onFailure = () => {}) {
  const { image } = view, isNewest = begin("about");
  tell("about", "Cutting out…");
  try {
    const answer = await json("POST", "v1/segment", { image_id: image.id, ...request });
    if (!isNewest()) return;
    view.current = { ...answer.masks[0], note };
    await redraw();
  } catch (error) {
    if (view.image !== image) return;
    onFailure();
    await redraw();
    if (isNewest()) tell("about", error.message, true);
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
    const point = { x, y, label: mode() === "point" ? 1 : 0 };
    view.points.push(point);
    prompt({ points: view.points }, "cut out by points", () => { view.points = view.points.filter((one) => one !== point); });
  }
});
$("canvas").addEventListener("pointerup", () => {
  if (!view.drag) return;
  const [x1, y1, x2, y2] = view.drag;
  view.drag = null;
  const box = [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
  if (box[2] - box[0] > 2 && box[3] - box[1] > 2) prompt({ box_xyxy: box }, "cut out by a box");
  else redraw();
});
$("canvas").addEventListener("pointercancel", () => {
  view.drag = null;
  redraw();
});
$("canvas").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const count = view.segments.length, at = view.segments.indexOf(view.current);
  view.current = view.segments[at < 0 ? 0 : (at + step + count) % count];
  redraw();
});
for (const radio of document.querySelectorAll("input[name=mode]")) {
  radio.addEventListener("change", () => {
    if (mode() === "look" || mode() === "box") view.points = [];
    redraw();
  });
}

// ---- what the buttons do

$("close").addEventListener("click", () => $("viewer").close());
$("similar").addEventListener("click", () => {
  const { image, current } = view;
  $("viewer").close();
  const box_xyxy = current.box_xyxy;
  const question = current.id ? { segments: [current.id] } : { regions: [{ image_id: image.id, box_xyxy }] };
  document.dispatchEvent(new CustomEvent("find-similar", { detail: question }));
});
$("refine").addEventListener("click", async () => {
  const { current, question } = view, isNewest = begin("about");
  const isWanted = () => isNewest() && view.current === current;
  tell("about", "Refining…");
  try {
    for await (const one of refined(question, [current.id])) {
      if (!isWanted()) return;
      if (one.answer === "kept") tell("about", `kept: ${one.reason}`);
      else {
        view.current = { ...current, ...one, note: `refined: ${one.reason}` };
        await redraw();
      }
    }
  } catch (error) {
    if (isWanted()) tell("about", error.message, true);
  }
});

// A mask that no index knows can be saved as well: pictures of it are made here, and the service writes it as COCO.
const files = {
  coco: ({ image, current, question }) => {
    const [first] = question.options.texts ?? [], text = first?.text ?? first;
    const asked = text ? `?asked=${encodeURIComponent(text)}` : "";
    if (current.id && !current.note) return blob("GET", `v1/segments/${current.id}/coco.json${asked}`);
    const { rle, predicted_iou, id } = current;
    return blob("POST", `v1/images/${image.id}/coco.json${asked}`, { rle, predicted_iou, segment_id: id ?? null });
  },
  mask: async ({ image, current }) => {
    const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext("2d");
    const pixels = context.createImageData(image.width, image.height);
    maskOf(current.rle, image.width, image.height).forEach((inside, at) => {
      pixels.data.fill(inside ? 255 : 0, 4 * at, 4 * at + 3);
      pixels.data[4 * at + 3] = 255;
    });
    context.putImageData(pixels, 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  },
  cutout: async ({ image, current }) => {
    const [x1, y1, x2, y2] = current.box_xyxy;
    const canvas = new OffscreenCanvas(x2 - x1, y2 - y1), context = canvas.getContext("2d");
    context.drawImage(await picture(image.id, 4096), -x1, -y1, image.width, image.height);
    const pixels = context.getImageData(0, 0, x2 - x1, y2 - y1);
    const mask = maskOf(current.rle, image.width, image.height);
    for (let y = y1; y < y2; y++) {
      for (let x = x1; x < x2; x++) {
        if (!mask[y * image.width + x]) pixels.data[4 * ((y - y1) * (x2 - x1) + x - x1) + 3] = 0;
      }
    }
    context.putImageData(pixels, 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  },
};
const NAMES = { coco: "segment.json", mask: "mask.png", cutout: "cutout.png" };
for (const [id, make] of Object.entries(files)) {
  $(id).addEventListener("click", async () => {
    try {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await make(view));
      link.download = NAMES[id];
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch (error) {
      tell("about", error.message, true);
    }
  });
}
