// Asking: by words, by a picture, by a segment; and what else the page has at its top.

import { askAgain, show } from "./hits.js";
import "./jobs.js";
import { MAX_FILES } from "./question.js";
import { $, begin, count, inWords, json, setKey, tell } from "./service.js";

const PAGE = 24;
let dropped = []; // the files that were chosen last

const listOf = (text) => text.split(",").map((part) => part.trim()).filter(Boolean);
const dayOf = (text) => (text ? new Date(`${text}T00:00`).getTime() / 1000 : null);

function conditions() {
  const share = (id) => ($(id).value === "" ? null : Number($(id).value) / 100);
  const until = dayOf($("until").value);
  return {
    limit: PAGE,
    per_image: Number($("per-image").value) || 3,
    matches_only: $("present").checked,
    level: $("level").value,
    filter: {
      min_area: share("min-area"),
      max_area: share("max-area"),
      sources: listOf($("source").value),
      tags: listOf($("tag").value),
      captured_from_s: dayOf($("since").value),
      captured_until_s: until === null ? null : until + 86_400, // the last day is in
    },
  };
}

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("filters").reportValidity()) return;
  const text = $("text").value.trim();
  if (!text) {
    begin("hits"); // an answer that is on its way is not wanted any more
    return tell("status", "Say what to look for, such as: red umbrella", true);
  }
  show({ what: `“${text}”`, options: { ...conditions(), texts: [text] }, files: [] });
});
$("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  $("search").requestSubmit();
});
document.addEventListener("find-similar", (event) => {
  show({ what: "objects like this one", options: { ...conditions(), matches_only: false, ...event.detail }, files: [] });
});

// ---- pictures that are chosen or dropped

function choose(chosen) {
  dropped = [...chosen];
  if (!dropped.length) return;
  $("upload").hidden = false;
  if (!$("upload").disabled) tell("upload-status", "");
  $("upload").textContent = dropped.length > 1 ? `Add the ${dropped.length} pictures to the index` : "Add the picture to the index";
  const files = dropped.slice(0, MAX_FILES), names = files.map((file) => file.name).join(", ");
  const text = $("text").value.trim();
  show({
    what: `the picture${files.length > 1 ? "s" : ""} ${names}${text ? ` and “${text}”` : ""}`,
    options: { ...conditions(), matches_only: false, texts: text ? [text] : [] },
    files,
  });
}

async function upload(file, wait) {
  const form = new FormData();
  form.append("file", file);
  form.append("wait", wait);
  for (const tag of listOf($("tag").value)) form.append("tags", tag);
  return json("POST", "v1/images", form);
}

$("file").addEventListener("click", () => { $("file").value = ""; }); // so that the same file can be chosen again
$("file").addEventListener("change", () => choose($("file").files));
$("upload").addEventListener("click", async () => {
  $("upload").disabled = true;
  try {
    if (dropped.length === 1) {
      tell("upload-status", "Cutting the picture into segments; this takes some seconds…");
      const done = await upload(dropped[0], true);
      tell("upload-status", `${dropped[0].name}: ${inWords(done.outcome)}${done.detail ? `, ${done.detail}` : ""}`, !done.image_id);
    } else {
      for (const [at, file] of dropped.entries()) {
        tell("upload-status", `Sending ${at + 1} of ${dropped.length}: ${file.name}`);
        await upload(file, false).catch((error) => {
          throw new Error(`${file.name}: ${error.message}; ${at} of ${dropped.length} pictures were sent before it`);
        });
      }
      tell("upload-status", `${dropped.length} pictures wait as jobs; “Jobs…” shows how far they are`);
    }
  } catch (error) {
    tell("upload-status", error.message, true);
  } finally {
    $("upload").disabled = false;
  }
});
for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", type === "dragover");
    if (type === "drop") choose(event.dataTransfer.files);
  });
}

// ---- the key, and keys

function askForKey() {
  if ($("key-dialog").open) return;
  $("key-text").value = "";
  $("key-dialog").showModal();
}

$("key").addEventListener("click", askForKey);
document.addEventListener("key-needed", askForKey);
$("key-form").addEventListener("submit", (event) => { // the form closes its dialog
  if (event.submitter?.value === "cancel") return;
  setKey($("key-text").value);
  askAgain();
});
document.addEventListener("keydown", (event) => {
  const busy = document.querySelector("dialog[open]") || /INPUT|TEXTAREA/.test(document.activeElement.tagName);
  if (event.key !== "/" || busy) return;
  event.preventDefault();
  $("text").focus();
});

$("narrow").open = matchMedia("(min-width: 701px)").matches; // a phone shows hits first

// what the index holds, so that an empty page says whether there is anything to find
const untouched = $("status").textContent;
const first = (text, isError) => { if ($("status").textContent === untouched) tell("status", text, isError); };
json("GET", "v1/stats").then(({ images, segments, profile }) => first(images
  ? `${count(segments, "segment")} in ${count(images, "picture")}, profile ${profile}. Search them.`
  : "The index is empty: add a picture, or let a job ingest a folder.")).catch((error) => first(error.message, error.status !== 503));
