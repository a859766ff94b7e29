// One function: its code and a call to try it, its log, its latest calls, and its settings.
import { useEffect, useState } from "preact/hooks";
import { ApiError, type Fn, fnPath, get, write } from "../api";
import { count, ms, percent } from "../format";
import { functions, refreshFunctions, traffic } from "../live";
import { go } from "../router";
import { Badge, confirm, Empty, Failed, Loading, say, Sparkline, Tabs } from "../ui";
import { Calls } from "./function-calls";
import { Code } from "./function-code";
import { Log } from "./function-log";
import { Settings } from "./function-settings";
import { Starts } from "./function-starts";
import { callByApi, callByRoute, Command, Urls } from "./function-urls";
import { Versions } from "./function-versions";

const TABS: [string, string][] = [
  ["code", "Code and test"],
  ["log", "Log"],
  ["calls", "Calls"],
  ["starts", "Starts"],
  ["versions", "Versions"],
  ["urls", "URLs"],
  ["settings", "Settings"],
];

export function FunctionPage({ name, tab }: { name: string; tab: string }) {
  const [fn, setFn] = useState<Fn>();
  const [failed, setFailed] = useState<ApiError>();

  const load = async () => {
    setFailed(undefined);
    try {
      setFn(await get<Fn>(fnPath(name)));
    } catch (error) {
      setFailed(error instanceof ApiError ? error : new ApiError(0, { code: "unknown", message: String(error) }));
    }
  };
  useEffect(() => {
    document.title = `${name} · Hearth`;
    void load();
  }, [name]);

  if (failed?.status === 404) {
    return (
      <Empty title={`There is no function “${name}”`}>
        <button type="button" onClick={() => go("/dashboard/")}>
          All functions
        </button>
      </Empty>
    );
  }
  if (failed) return <Failed text={failed.message} again={load} />;
  if (!fn) return <Loading what={name} />;

  const seen = traffic.value.get(fn.id);
  const base = `/dashboard${fnPath(fn.name)}`;
  const changed = (now: Fn) => {
    setFn(now);
    void refreshFunctions();
    if (now.name !== fn.name) void go(`/dashboard${fnPath(now.name, `/${tab}`)}`, true);
  };
  // What another deployed meanwhile is told, and taken over only when it is asked for.
  const newest = functions.value?.find((one) => one.id === fn.id);
  const overtaken = newest && newest.revision > fn.revision;

  const remove = async () => {
    const sure = await confirm({
      title: `Delete ${fn.name}?`,
      text: "Calls under way finish. Its code, settings and log are gone for good, and its name is free.",
      action: "Delete function",
      danger: true,
    });
    if (!sure) return;
    try {
      await write("DELETE", fnPath(fn.id));
      say(`${fn.name} is deleted.`);
      await refreshFunctions();
      void go("/dashboard/");
    } catch (error) {
      say((error as Error).message, true);
    }
  };

  return (
    <>
      <div class="head">
        <div class="title">
          <h1>{fn.name}</h1>
          <div class="row">
            <Badge kind="plain">{fn.language}</Badge>
            <Badge kind="plain">{`revision ${fn.revision}`}</Badge>
            {fn.route && <Badge kind="route">{fn.route}</Badge>}
          </div>
          {fn.description && <p class="muted">{fn.description}</p>}
        </div>
        {seen && (
          <dl class="stats">
            <div>
              <dt>Calls</dt>
              <dd>{count(seen.calls)}</dd>
            </div>
            <div>
              <dt>Errors</dt>
              <dd class={seen.failed ? "bad" : ""}>{percent(seen.failed, seen.calls)}</dd>
            </div>
            <div>
              <dt>p50</dt>
              <dd>{ms(seen.p50)}</dd>
            </div>
            <div>
              <dt>p99</dt>
              <dd>{ms(seen.p99)}</dd>
            </div>
            <div class="spark-stat">
              <dt class="sr">Last 5 minutes</dt>
              <dd>
                <Sparkline spans={seen.spans} label={`${seen.spans.reduce((sum, [calls]) => sum + calls, 0)} calls in the last 5 minutes`} />
              </dd>
            </div>
          </dl>
        )}
      </div>
      {tab !== "urls" && <Command text={fn.route ? callByRoute(fn.route) : callByApi(fn)} label="How it is called" />}
      {overtaken && (
        <div class="notice" role="status">
          <span>Somebody deployed revision {newest.revision} meanwhile.</span>
          <button type="button" class="small" onClick={load}>
            Take it over
          </button>
        </div>
      )}
      <Tabs tabs={TABS} at={tab} go={(to) => go(to === "code" ? base : `${base}/${to}`)} />
      <div id="tab-panel" role="tabpanel" aria-labelledby={`tab-${tab}`} class="panel">
        {tab === "code" && <Code key={fn.code.sha256 + fn.handler} fn={fn} changed={changed} reload={load} />}
        {tab === "log" && <Log key={fn.id} fn={fn} />}
        {tab === "calls" && <Calls key={fn.id} fn={fn} />}
        {tab === "starts" && <Starts key={fn.id} fn={fn} />}
        {tab === "versions" && <Versions key={fn.id} fn={fn} changed={changed} />}
        {tab === "urls" && <Urls key={fn.id} fn={fn} />}
        {tab === "settings" && <Settings key={fn.revision} fn={fn} changed={changed} remove={remove} />}
      </div>
    </>
  );
}
