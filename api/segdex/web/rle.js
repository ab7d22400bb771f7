// COCO's compressed run-length code of masks (cocoapi, common/maskApi.c), drawn at any size.

/** Return the lengths of the runs, of background and object in turn, column by column. */
export function runsOf(counts) {
  const runs = [];
  for (let at = 0; at < counts.length;) {
    let value = 0, digit = 0, code;
    do {
      code = counts.charCodeAt(at++) - 48;
      value |= (code & 31) << (5 * digit++);
    } while (code & 32);
    if (code & 16) value |= -1 << (5 * digit);
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

/** Return a Uint8Array of width x height, 1 where the object is. */
export function maskOf(rle, width, height) {
  const [fullHeight, fullWidth] = rle.size;
  const mask = new Uint8Array(width * height);
  const columns = new Map();
  for (let x = 0; x < width; x++) {
    const from = Math.floor(((x + 0.5) * fullWidth) / width);
    columns.set(from, [...(columns.get(from) ?? []), x]);
  }
  let at = 0;
  runsOf(rle.counts).forEach((length, number) => {
    const end = at + length;
    for (let start = at; number % 2 && start < end;) {
      const column = Math.floor(start / fullHeight);
      const stop = Math.min((column + 1) * fullHeight, end);
      const first = Math.ceil(((start - column * fullHeight) * height) / fullHeight - 0.5);
      const last = Math.ceil(((stop - column * fullHeight) * height) / fullHeight - 0.5);
      for (const x of columns.get(column) ?? []) {
        for (let y = Math.max(first, 0); y < Math.min(last, height); y++) mask[y * width + x] = 1;
      }
      start = stop;
    }
    at = end;
  });
  return mask;
}

/** Draw masks over what is on a canvas: tint and outline of the objects, the rest darker, each where it is wanted. */
export function drawMasks(context, rles, { tint = true, outline = true } = {}) {
  if (!rles.length || !(tint || outline)) return;
  const { width, height } = context.canvas;
  const masks = rles.map((rle) => maskOf(rle, width, height));
  const pixels = context.getImageData(0, 0, width, height);
  const reach = Math.max(1, Math.round(width / 400));
  const edgeOf = (mask, x, y) =>
    x < reach || y < reach || x + reach >= width || y + reach >= height ||
    !(mask[y * width + x - reach] && mask[y * width + x + reach] && mask[(y - reach) * width + x] && mask[(y + reach) * width + x]);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      let here = false, edge = false;
      for (const mask of masks) {
        if (!mask[at]) continue;
        here = true;
        if (outline && edgeOf(mask, x, y)) edge = true;
      }
      const share = edge ? 1 : here && tint ? 0.22 : 0;
      const dim = here || !tint ? 1 : 0.6;
      [255, 196, 0].forEach((colour, channel) => {
        pixels.data[4 * at + channel] = pixels.data[4 * at + channel] * dim * (1 - share) + colour * share;
      });
    }
  }
  context.putImageData(pixels, 0, 0);
}
