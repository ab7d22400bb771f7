// The grid of hits.

import { drawMasks } from "./rle.js";
import { $, begin, count, drawPicture, events, fileName, json, tell, watch } from "./service.js";
import { look, open } from "./viewer.js";

const GRID_PX = 400, REFINED = 5;
const shown = { answers: [], more: null, cards: new Map() }; // segment id to its redraw

/** Show the answer to a question in place of what is there.
 * @param what the question in words
 * @param ask returns the promise of a page of the answer, given its cursor */
export async function show(what, ask) {
  const isNewest = begin("hits");
  tell("status", "Searching…");
  try {
    const answer = await ask(null);
    if (!isNewest()) return;
    Object.assign(shown, { answers: [answer], what, ask, refused: null });
    render();
  } catch (error) {
    if (!isNewest()) return;
    tell("status", error.message, true);
    shown.refused = error.status === 401 ? () => show(what, ask) : null;
  }
}

/** Ask again what was refused for want of a key. */
export const askAgain = () => shown.refused?.();

async function more() {
  const isAsked = watch("hits"), last = shown.answers.at(-1);
  $("more").disabled = true;
  try {
    const answer = await shown.ask(last.next_cursor);
    if (!isAsked()) return;
    shown.answers.push(answer);
    render();
    cardsOf(answer)[0]?.querySelector("button").focus();
  } catch (error) {
    if (isAsked()) tell("status", error.message, true);
  } finally {
    $("more").disabled = false;
  }
}

const cardsOf = (answer) => [...$("hits").children].filter((item) => item.answer === answer);

/** Draw the grid anew: a card for each segment, best first, or for each picture with all its segments. */
export function render() {
  if (!shown.answers.length) return;
  shown.cards.clear();
  const items = shown.answers.flatMap((answer) => {
    const cards = $("group").checked
      ? answer.hits.map((hit) => ({ hit, segments: hit.segments, answer }))
      : answer.hits.flatMap((hit) => hit.segments.map((segment) => ({ hit, segments: [segment], answer })));
    cards.sort((a, b) => b.hit.is_match - a.hit.is_match || b.segments[0].score - a.segments[0].score);
    const weaker = cards.findIndex(({ hit }) => !hit.is_match);
    const made = cards.map(card);
    return weaker < 0 ? made : [...made.slice(0, weaker), divider(), ...made.slice(weaker)];
  });
  const hits = shown.answers.flatMap((answer) => answer.hits);
  tell("status", statusOf(hits));
  $("hits").replaceChildren(...items);
  $("more").hidden = !shown.answers.at(-1).next_cursor;
  $("refine-hits").hidden = !hits.length;
}

/** Say what was found; weaker matches are shown and not counted. */
function statusOf(hits) {
  const { timings_ms: timings, embedder } = shown.answers.at(-1);
  const matches = hits.filter((hit) => hit.is_match);
  if (matches.length) {
    const objects = matches.flatMap((hit) => hit.segments).length;
    const took = Object.values(timings).reduce((sum, ms) => sum + ms, 0);
    return `${count(objects, "object")} in ${count(matches.length, "picture")} for ${shown.what}, ${Math.round(took)} ms, by ${embedder}`;
  }
  if (hits.length) return `Not there: no picture stands out for ${shown.what}. The nearest, by ${embedder}:`;
  if ($("present").checked) return `Not there: no picture stands out for ${shown.what}.`;
  return `Nothing found for ${shown.what}; do the filters leave any picture?`;
}

/** What comes between the pictures that show it and those that are only nearest. */
function divider() {
  const item = document.createElement("li");
  item.className = "divider";
  item.textContent = "Weaker matches";
  return item;
}

function card({ hit, segments, answer }) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const canvas = document.createElement("canvas");
  const scale = GRID_PX / Math.max(hit.image.width, hit.image.height);
  canvas.width = Math.max(1, Math.round(hit.image.width * scale));
  canvas.height = Math.max(1, Math.round(hit.image.height * scale));
  canvas.setAttribute("aria-hidden", "true");
  const score = document.createElement("strong");
  score.textContent = segments[0].score.toFixed(3);
  const label = document.createElement("span");
  label.className = "name";
  label.textContent = fileName(hit.image);
  const objects = document.createElement("span");
  objects.textContent = segments.length > 1 ? count(segments.length, "object") : "";
  const caption = document.createElement("span");
  caption.className = "caption";
  caption.append(score, objects, label);
  button.title = hit.image.path;
  button.append(canvas, caption);
  button.addEventListener("click", () => open(hit.image, segments, answer));
  item.append(button);
  item.answer = answer;
  const redraw = async () => {
    try {
      const context = await drawPicture(canvas, hit.image.image_id, GRID_PX);
      drawMasks(context, segments.map((segment) => segment.rle), look());
    } catch (error) {
      label.textContent = error.message;
      label.classList.add("error");
    }
  };
  for (const segment of segments) {
    shown.cards.set(segment.segment_id, (refined) => {
      if (refined) {
        Object.assign(segment, { rle: refined.rle, box_xyxy: refined.box_xyxy, area_px: refined.area_px });
        score.textContent = `${segment.score.toFixed(3)}, refined`;
      }
      return redraw();
    });
  }
  redraw();
  return item;
}

async function refineHits() {
  const isAsked = watch("hits"), [answer] = shown.answers;
  $("refine-hits").disabled = true;
  const found = { refined: 0, kept: 0 };
  try {
    for await (const { name, data } of events(`/v1/search/${answer.id}/refinements?first=${REFINED}`)) {
      if (!isAsked()) return;
      if (name === "error") throw new Error(data.detail);
      if (name !== "refinement") continue;
      found[data.answer]++;
      tell("status", `Refining: ${found.refined} masks re-decoded, ${found.kept} kept`);
      if (data.answer === "refined") shown.cards.get(data.segment_id)?.(data);
    }
    if (isAsked()) tell("status", `${found.refined} masks re-decoded, ${found.kept} kept as they were`);
  } catch (error) {
    if (isAsked()) tell("status", error.message, true);
  } finally {
    $("refine-hits").disabled = false;
  }
}

$("more").addEventListener("click", more);
$("refine-hits").addEventListener("click", refineHits);
$("group").addEventListener("change", render);
for (const id of ["masks", "outlines"]) {
  $(id).addEventListener("change", () => new Set(shown.cards.values()).forEach((redraw) => redraw()));
}

/** Ask with a body of JSON, page by page. */
export const bySearch = (question) => (cursor) => json("POST", "/v1/search", cursor ? { ...question, cursor } : question);
