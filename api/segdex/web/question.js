// Questions: what was asked for, kept beside its answer, so that its further pages and better masks are of the same.
// A question has `what`, in words; `options`, as `POST /v1/search` takes them; and `files`, pictures to look like.

import { events, json, Refused } from "./service.js";

/** Pictures that one question may have. */
export const MAX_FILES = 4;

/** What goes to a path that has a form of its own for pictures that are sent. */
function sent(path, request, files) {
  if (!files.length) return ["POST", path, request];
  const form = new FormData();
  for (const file of files) form.append("file", file);
  form.append("request", JSON.stringify(request));
  return ["POST", `${path}/by-image`, form];
}

/** Ask for a page of the answer; the cursor of the first one is null. */
export const page = ({ options, files }, cursor) => json(...sent("v1/search", cursor ? { ...options, cursor } : options, files));

/** Have the masks of segments decoded again for a question; yields each as soon as it is there. */
export async function* refined({ options, files }, segmentIds) {
  const { texts, negative, segments, regions, view_weights } = options; // the others choose and order the hits
  const request = { texts, negative, segments, regions, view_weights, segment_ids: segmentIds };
  let isWhole = false;
  for await (const { name, data } of events(...sent("v1/refine", request, files))) {
    if (name === "error") throw new Refused(data.detail, 0);
    if (name === "done") isWhole = true;
    else yield data;
  }
  if (!isWhole) throw new Refused("the service broke off before the last mask", 0);
}
