// Why calls were not warm: every worker that was started for this function, and the cause of it.
import { useEffect, useState } from "preact/hooks";
import { type Fn, fnPath, get } from "../api";
import { clock, ms } from "../format";
import { traffic } from "../live";
import { Badge, Empty, Failed, Loading } from "../ui";

interface Start {
  sequence: number;
  at: string;
  kind: string;
  cause: string;
  caused_at: string | null;
  workers: number | null;
  rule: string | null;
  in_favour_of: string | null;
  ended_by: string | null;
  not_stem: string | null;
  queue_ms: number;
  start_ms: number;
  init_ms: number;
  error: string | null;
}

const CAUSES: Record<string, string> = {
  first_call: "the first call of this version",
  version_changed: "a new version was deployed",
  provisioned: "workers are kept ready for it",
  scale_out: "every worker was busy",
  keep_alive: "its worker had been idle too long",
  evicted: "its worker made room for another function",
  crashed: "its worker had ended",
  network_ended: "what held its worker's network had ended",
  cancelled: "its worker was ended with its call",
};

export function Starts({ fn }: { fn: Fn }) {
  const [starts, setStarts] = useState<Start[]>();
  const [error, setError] = useState("");
  const seen = traffic.value.get(fn.id);
  const counted = (seen?.stem ?? 0) + (seen?.cold ?? 0);
  const load = async () => {
    try {
      setStarts((await get<{ items: Start[] }>(fnPath(fn.id, "/starts?limit=200"))).items);
      setError("");
    } catch (problem) {
      setError((problem as Error).message);
    }
  };
  useEffect(() => void load(), [counted]);

  if (error && !starts) return <Failed text={error} again={load} />;
  if (!starts) return <Loading what="starts" />;
  if (!starts.length) {
    return (
      <Empty title="No worker was started for it yet">
        <p>Whenever a call cannot be warm, the reason is kept here.</p>
      </Empty>
    );
  }
  return (
    <section class="card scroll-x" tabIndex={0} aria-label="Starts">
      <table class="list">
        <thead>
          <tr>
            <th scope="col">At</th>
            <th scope="col">Kind</th>
            <th scope="col">Because</th>
            <th scope="col" class="num">
              Took
            </th>
          </tr>
        </thead>
        <tbody>
          {starts.map((start) => (
            <tr key={start.sequence}>
              <td class="when">{clock(start.at)}</td>
              <td>
                <Badge kind={start.error ? "bad" : start.kind}>{start.error ?? start.kind}</Badge>
              </td>
              <td>
                {CAUSES[start.cause] ?? start.cause}
                <span class="sub">
                  {start.cause === "scale_out" && start.workers !== null && `${start.workers} there already. `}
                  {start.in_favour_of && `In favour of ${start.in_favour_of}. `}
                  {start.ended_by && `It ended by ${start.ended_by}. `}
                  {start.not_stem && `No stem worker: ${start.not_stem.replaceAll("_", " ")}.`}
                </span>
              </td>
              <td class="num" title={`waited ${ms(start.queue_ms)}, container ${ms(start.start_ms)}, code ${ms(start.init_ms)}`}>
                {ms(start.queue_ms + start.start_ms + start.init_ms)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
