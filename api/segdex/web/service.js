// The service: requests with the key of this tab, and pictures that are kept.

// Addresses are relative: the page works below any path. So does its key, which pages of other paths do not get.
const KEY = `segdex-key ${new URL(".", document.baseURI).pathname}`, KEPT_PICTURES = 200;
const GONE = "Can't reach the service. Is it running?";
const pictures = new Map(); // address to a promise of an ImageBitmap

/** An answer that says no; `status` is that of HTTP, 0 where nobody answered. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const setKey = (key) => sessionStorage.setItem(KEY, key.trim());

/** Send a request; a FormData goes as it is, anything else as JSON. */
async function call(method, path, body, accept = "*/*") {
  const headers = { Accept: accept };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body && !(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  const response = await fetch(path, { method, headers, body }).catch(() => {
    throw new Refused(GONE, 0);
  });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    if (response.status === 401) document.dispatchEvent(new Event("key-needed"));
    throw new Refused(problem.detail ?? `the service answers with ${response.status}`, response.status);
  }
  return response;
}

export const json = async (method, path, body) => (await call(method, path, body)).json();
export const blob = async (method, path, body) => (await call(method, path, body)).blob();

/** Read server-sent events; `EventSource` can send neither a key nor a question. The service stops when nobody reads on. */
export async function* events(method, path, body) {
  const response = await call(method, path, body, "text/event-stream");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch(() => {
        throw new Refused(GONE, 0);
      });
      if (done) return;
      text += value;
      const whole = text.split("\n\n");
      text = whole.pop();
      for (const event of whole) {
        const [, name, data] = event.match(/^event: (.*)\ndata: (.*)$/);
        yield { name, data: JSON.parse(data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // of a stream that broke off there is nothing to cancel
  }
}

/** Return a picture of the index, no longer than px. */
export function picture(imageId, px) {
  const path = `v1/images/${imageId}/file?max_px=${px}`;
  if (!pictures.has(path)) {
    if (pictures.size > KEPT_PICTURES) pictures.delete(pictures.keys().next().value);
    const made = call("GET", path).then((response) => response.blob()).then(createImageBitmap);
    made.catch(() => pictures.delete(path)); // the next look asks again
    pictures.set(path, made);
  }
  return pictures.get(path);
}

/** Draw a picture of the index over a canvas; null where it is not wanted any more when it comes. */
export async function drawPicture(canvas, imageId, px, isWanted = () => true) {
  const bitmap = await picture(imageId, px);
  if (!isWanted()) return null;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return context;
}

/** Show a line, as an error or not. */
export function tell(id, text, isError = false) {
  const line = document.getElementById(id);
  line.textContent = text;
  line.classList.toggle("error", isError);
}

const turns = new Map(); // part of the page to the number of actions on it

/** Begin an action whose answer comes later. Returns a function that says whether it is still the newest on its part of
 * the page: answers may overtake each other, and a late one must not replace what is newer. */
export function begin(part) {
  const mine = (turns.get(part) ?? 0) + 1;
  turns.set(part, mine);
  return () => turns.get(part) === mine;
}

/** Return a function that says whether no action on a part of the page has begun since now. */
export function watch(part) {
  const seen = turns.get(part);
  return () => turns.get(part) === seen;
}

export const $ = (id) => document.getElementById(id);
export const count = (number, noun) => `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;
/** A value of the service, as people read it: "not_an_image" is "not an image". */
export const inWords = (value) => value.replaceAll("_", " ");
export const fileName = (image) => image.path.split("/").pop();
