// The jobs of the service, while their window is open.

import { $, begin, inWords, json, tell, watch } from "./service.js";

const LOOK_EVERY_MS = 1000;
const rows = new Map(); // id to the parts of its line

function rowOf(id) {
  if (!rows.has(id)) {
    const [item, title, bar, note, stop] = ["li", "strong", "progress", "p", "button"].map((name) => document.createElement(name));
    note.className = "note";
    stop.type = "button";
    stop.textContent = "Stop";
    stop.addEventListener("click", () => act(json("DELETE", `v1/jobs/${id}`)));
    item.append(title, stop, bar, note);
    rows.set(id, { item, title, bar, note, stop });
  }
  return rows.get(id);
}

let failed = false; // whether the line says that the list could not be read

/** Read the list again. The line below the form is left to an action that has begun since, and to its error. */
async function refresh() {
  const isNewest = begin("job-list"), isQuiet = watch("job-status");
  try {
    const jobs = await json("GET", "v1/jobs");
    if (!isNewest()) return;
    list(jobs);
    if (isQuiet() && (failed || !$("job-status").classList.contains("error"))) tell("job-status", jobs.length ? "" : "No jobs yet.");
    failed = false;
  } catch (error) {
    if (!isNewest() || !isQuiet()) return;
    failed = true;
    tell("job-status", error.message, true);
  }
}

/** A duration in seconds, minutes or hours, whichever reads better. */
function inTime(seconds) {
  if (seconds < 120) return `${Math.max(Math.round(seconds), 1)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function list(jobs) {
  for (const job of jobs) {
    const row = rowOf(job.id), paths = job.paths.join(", ");
    row.title.textContent = paths;
    row.bar.max = job.total || 1;
    row.bar.value = job.done;
    row.bar.setAttribute("aria-label", `progress of ${paths}`);
    row.stop.hidden = !["waiting", "running"].includes(job.status);
    row.stop.setAttribute("aria-label", `Stop ${paths}`);
    const counted = (counts) => Object.entries(counts).map(([name, count]) => `${count} ${inWords(name)}`).join(", ");
    const counts = counted(job.counts), kinds = counted(job.kinds), failures = job.failures.map((one) => one.detail);
    const left = job.status === "running" && job.left_s ? `, about ${inTime(job.left_s)} left` : "";
    row.note.textContent = [`${job.status}: ${job.done} of ${job.total ?? "?"} files${left}`, counts, kinds && `not pictures: ${kinds}`, job.segments && `${job.segments} segments`, job.detail, ...failures].filter(Boolean).join("; ");
  }
  const items = jobs.map((job) => rowOf(job.id).item);
  if (items.some((item, at) => $("job-list").children[at] !== item)) $("job-list").replaceChildren(...items);
}

async function act(promise) {
  const isNewest = begin("job-status");
  failed = false;
  try {
    await promise;
    if (isNewest()) tell("job-status", "");
  } catch (error) {
    if (isNewest()) tell("job-status", error.message, true);
  }
  await refresh();
}

$("show-jobs").addEventListener("click", () => {
  begin("job-status"); // what was said before is over
  tell("job-status", "");
  $("jobs").showModal();
  const isNewest = begin("jobs");
  const again = () => {
    if ($("jobs").open && isNewest()) refresh().finally(() => setTimeout(again, LOOK_EVERY_MS));
  };
  again();
});
$("close-jobs").addEventListener("click", () => $("jobs").close());
$("add-job").addEventListener("submit", (event) => {
  event.preventDefault();
  act(json("POST", "v1/jobs", { paths: [$("job-path").value.trim()] }));
});
