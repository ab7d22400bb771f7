// The grid of hits.

import { page, refined } from "./question.js";
import { drawMasks } from "./rle.js";
import { $, begin, count, drawPicture, fileName, tell, watch } from "./service.js";
import { look, open } from "./viewer.js";

const GRID_PX = 400, REFINED = 5;
const shown = { question: null, answers: [], cards: new Map() }; // segment id to its redraw

/** Show the answer to a question in place of what is there. */
export async function show(question) {
  const isNewest = begin("hits");
  tell("status", "Searching…");
  try {
    const answer = await page(question, null);
    if (!isNewest()) return;
    Object.assign(shown, { question, answers: [answer], refused: null });
    render();
  } catch (error) {
    if (!isNewest()) return;
    tell("status", error.message, true);
    shown.refused = error.status === 401 ? () => show(question) : null;
  }
}

/** Ask again what was refused for want of a key. */
export const askAgain = () => shown.refused?.();

async function more() {
  const isAsked = watch("hits"), last = shown.answers.at(-1);
  $("more").disabled = true;
  try {
    const answer = await page(shown.question, last.next_cursor);
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

/** Matches before weaker ones, then by score. */
const bestFirst = (a, b) => b.hit.is_match - a.hit.is_match || b.segments[0].score - a.segments[0].score;
const inGroups = (answer) => answer.hits.map((hit) => ({ hit, segments: hit.segments, answer })).sort(bestFirst);
const oneByOne = (answer) => answer.hits.flatMap((hit) => hit.segments.map((segment) => ({ hit, segments: [segment], answer }))).sort(bestFirst);
const cardsOf = (answer) => [...$("hits").children].filter((item) => item.answer === answer);

/** Draw the grid anew: a card for each segment, best first, or for each picture with all its segments. */
export function render() {
  if (!shown.answers.length) return;
  shown.cards.clear();
  const items = shown.answers.flatMap((answer) => {
    const cards = $("group").checked ? inGroups(answer) : oneByOne(answer);
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

/** Say what was found, and what the service says of the question. */
const statusOf = (hits) => [outcomeOf(hits), ...(shown.answers.at(-1).hints ?? [])].join(" · ");

/** Say what was found; weaker matches are shown and not counted. */
function outcomeOf(hits) {
  const { timings_ms: timings, embedder } = shown.answers.at(-1), { what, options } = shown.question;
  const matches = hits.filter((hit) => hit.is_match);
  if (matches.length) {
    const objects = matches.flatMap((hit) => hit.segments).length;
    const took = Object.values(timings).reduce((sum, ms) => sum + ms, 0);
    return `${count(objects, "object")} in ${count(matches.length, "picture")} for ${what}, ${Math.round(took)} ms, by ${embedder}`;
  }
  if (hits.length) return `Not there: no picture stands out for ${what}. The nearest, by ${embedder}:`;
  if (options.matches_only) return `Not there: no picture stands out for ${what}.`;
  return `No matches for ${what}. Check the filters.`;
}

/** What comes between the pictures that show it and those that are only nearest. */
function divider() {
  const item = document.createElement("li");
  item.className = "divider";
  item.textContent = "Weaker matches";
  return item;
}

function card({ hit, segments, answer }) {
  const { question } = shown;
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
  objects.textContent = segments.length > 1 || hit.count ? count(hit.count ?? segments.length, "object") : "";
  const caption = document.createElement("span");
  caption.className = "caption";
  caption.append(score, objects, label);
  button.title = hit.image.path;
  button.append(canvas, caption);
  button.addEventListener("click", () => open(hit.image, segments, question));
  item.append(button);
  item.answer = answer;
  const redraw = async () => {
    try {
      const context = await drawPicture(canvas, hit.image.id, GRID_PX);
      drawMasks(context, segments.map((segment) => segment.rle), look());
    } catch (error) {
      label.textContent = error.message;
      label.classList.add("error");
    }
  };
  for (const segment of segments) {
    shown.cards.set(segment.id, (better) => {
      if (better) {
        Object.assign(segment, { rle: better.rle, box_xyxy: better.box_xyxy, area_px: better.area_px });
        score.textContent = `${segment.score.toFixed(3)}, refined`;
      }
      return redraw();
    });
  }
  redraw();
  return item;
}

async function refineHits() {
  const isAsked = watch("hits"), best = oneByOne(shown.answers[0]).slice(0, REFINED);
  $("refine-hits").disabled = true;
  const found = { refined: 0, kept: 0 };
  try {
    for await (const one of refined(shown.question, best.map(({ segments: [{ id }] }) => id))) {
      if (!isAsked()) return;
      found[one.answer]++;
      tell("status", `Refining: ${found.refined} masks re-decoded, ${found.kept} kept`);
      if (one.answer === "refined") shown.cards.get(one.segment_id)?.(one);
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
