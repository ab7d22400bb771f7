// What a program does with the generated TypeScript client; compiled by a test with --strict, and not run.

import { addJob, getImageFile, getStats, refine, search, uploadImage, watchJob } from "./client";
import type { HitOut, Job, Problem, SearchRequest } from "./client";
import { client } from "./client/client.gen";

client.setConfig({ baseUrl: "https://pictures.example/segdex", auth: () => "segdex_..." });

export async function bestHit(text: string): Promise<HitOut> {
  const question: SearchRequest = { texts: [text, { text: "wooden table", weight: 2 }], limit: 1 };
  const { data, error } = await search({ body: question });
  if (!data) throw new Error((error as Problem).detail);
  const hit = data.hits[0];
  const [x1, , x2]: [number, number, number, number] = hit.segments[0].box_xyxy;
  console.log(hit.image.path, hit.is_match, x2 - x1, hit.segments[0].rle.counts.length);
  return hit;
}

export async function look(hit: HitOut): Promise<Blob | File> {
  const { data } = await getImageFile({ path: { image_id: hit.image.id }, query: { max_px: 512 }, throwOnError: true });
  return data;
}

export async function better(hit: HitOut): Promise<number | undefined> {
  const { data } = await refine({ body: { texts: ["a cup"], segment_ids: hit.segments.map((one) => one.id) } });
  return data?.refinements[0]?.gain;
}

export async function add(file: File, folder: string): Promise<Job["status"] | undefined> {
  const sent = await uploadImage({ body: { file, tags: ["2026"] }, headers: { "Idempotency-Key": crypto.randomUUID() } });
  console.log(sent.data?.outcome, (await getStats()).data?.segments_per_image);
  const { data: job } = await addJob({ body: { paths: [folder] }, headers: { "Idempotency-Key": "monday" } });
  if (!job) return undefined;
  const { stream } = await watchJob({ path: { job_id: job.id } });
  for await (const event of stream) {
    const now = event as Job;
    if (now.ended_at) return now.status;
  }
  return undefined;
}
