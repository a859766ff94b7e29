// The API's reference, drawn from the document that the server makes of itself.
import { useEffect, useState } from "preact/hooks";
import { get } from "../api";
import { Badge, Copy, Failed, Loading } from "../ui";

interface Schema {
  $ref?: string;
  type?: string | string[];
  format?: string;
  description?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  enum?: unknown[];
  default?: unknown;
  oneOf?: Schema[];
  allOf?: Schema[];
  anyOf?: Schema[];
  additionalProperties?: Schema | boolean;
  minimum?: number;
  maximum?: number;
}

interface Content {
  schema?: Schema;
  example?: unknown;
}

interface Operation {
  tags?: string[];
  summary?: string;
  description?: string;
  operationId?: string;
  parameters?: { name: string; in: string; required?: boolean; description?: string; schema?: Schema }[];
  requestBody?: { description?: string; content: Record<string, Content> };
  responses: Record<string, { description?: string; content?: Record<string, Content> }>;
}

interface Document {
  info: { title: string; version: string; description?: string };
  tags?: { name: string; description?: string }[];
  paths: Record<string, Record<string, Operation>>;
  components?: { schemas?: Record<string, Schema> };
}

type Entry = { id: string; method: string; path: string; operation: Operation };

/** Schemas within schemas are shown this deep. */
const DEPTH_MAX = 5;

export function DocsPage() {
  const [document_, setDocument] = useState<Document>();
  const [error, setError] = useState("");
  const [search, setSearch] = useState("");
  const load = () => {
    get<Document>("/openapi.json").then(setDocument, (problem: Error) => setError(problem.message));
  };
  useEffect(() => {
    document.title = "API · Hearth";
    load();
  }, []);
  useEffect(() => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target) target.scrollIntoView();
  }, [document_]);
  if (error) return <Failed text={error} again={load} />;
  if (!document_) return <Loading what="the reference" />;

  const all: Entry[] = Object.entries(document_.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ id: operation.operationId ?? `${method}${path}`, method, path, operation })),
  );
  const words = search.toLowerCase();
  const shown = all.filter(({ path, method, operation }) => `${method} ${path} ${operation.summary} ${operation.description}`.toLowerCase().includes(words));
  const tags = document_.tags ?? [];
  const of = (tag: string) => shown.filter(({ operation }) => operation.tags?.includes(tag));

  return (
    <>
      <div class="head">
        <div>
          <h1>API</h1>
          <p class="muted">
            {document_.info.description} The document itself is at <a href="/openapi.json">/openapi.json</a>; every request carries{" "}
            <code>Authorization: Bearer KEY</code>.
          </p>
        </div>
        <div class="row">
          <input type="search" placeholder="Search" aria-label="Search the API" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
        </div>
      </div>
      <div class="api">
        <nav class="api-nav" aria-label="Operations">
          {tags.map(
            ({ name }) =>
              of(name).length > 0 && (
                <>
                  <h2>{name}</h2>
                  {of(name).map(({ id, operation }) => (
                    <a key={id} href={`#${id}`}>
                      {operation.summary}
                    </a>
                  ))}
                </>
              ),
          )}
        </nav>
        <div class="ops">
          {tags.flatMap(({ name }) => of(name).map((entry) => <OneOperation key={entry.id} entry={entry} document={document_} />))}
          {!shown.length && <p class="muted">Nothing is like that.</p>}
        </div>
      </div>
    </>
  );
}

/** Text with `code` in it and empty lines between paragraphs, as the document has it. */
function Text({ text }: { text: string }) {
  return (
    <>
      {text.split(/\n\s*\n/).map((part, at) => (
        <p key={at}>{part.split("`").map((piece, n) => (n % 2 ? <code key={n}>{piece}</code> : piece))}</p>
      ))}
    </>
  );
}

function OneOperation({ entry, document: all }: { entry: Entry; document: Document }) {
  const { id, method, path, operation } = entry;
  const body = operation.requestBody && Object.entries(operation.requestBody.content)[0];
  const example = body?.[1].example;
  const filled = path.replace(/\{[^}]*\}/g, "ID");
  const curl = [
    `curl -sS${method === "get" ? "" : ` -X ${method.toUpperCase()}`} '${location.origin}${filled}' -H "Authorization: Bearer $HEARTH_KEY"`,
    example !== undefined ? `-d '${JSON.stringify(example).replace(/'/g, "'\\''")}'` : "",
  ]
    .filter(Boolean)
    .join(" ");
  return (
    <section class="card op" id={id} aria-labelledby={`${id}-title`}>
      <div class="bar">
        <h2 id={`${id}-title`}>{operation.summary}</h2>
        <span class={`method ${method}`}>{method.toUpperCase()}</span>
        <code class="op-path">{path}</code>
      </div>
      <div class="body">
        {operation.description && <Text text={operation.description} />}
        {!!operation.parameters?.length && (
          <div>
            <h3>Parameters</h3>
            <dl class="defs">
              {operation.parameters.map((parameter) => (
                <>
                  <dt>
                    <code>{parameter.name}</code>
                  </dt>
                  <dd>
                    <Text text={`${parameter.in}${parameter.required ? ", required" : ""}${parameter.description ? `: ${parameter.description}` : ""}`} />
                  </dd>
                </>
              ))}
            </dl>
          </div>
        )}
        {body && (
          <div>
            <h3>Body, {body[0]}</h3>
            {body[1].schema && <SchemaView schema={body[1].schema} all={all} depth={0} />}
          </div>
        )}
        <div>
          <h3>Answers</h3>
          <dl class="defs">
            {Object.entries(operation.responses).map(([status, response]) => (
              <>
                <dt>
                  <Badge kind={status < "300" ? "good" : status < "500" ? "plain" : "bad"}>{status}</Badge>
                </dt>
                <dd>
                  <Text text={response.description ?? ""} />
                  {status < "300" && response.content?.["application/json"]?.schema && (
                    <details>
                      <summary>What is in it</summary>
                      <SchemaView schema={response.content["application/json"].schema} all={all} depth={0} />
                    </details>
                  )}
                </dd>
              </>
            ))}
          </dl>
        </div>
        <div class="address">
          <code tabIndex={0}>{curl}</code>
          <Copy text={curl} />
        </div>
      </div>
    </section>
  );
}

function resolve(schema: Schema, all: Document): Schema {
  const name = schema.$ref?.split("/").pop();
  return (name && all.components?.schemas?.[name]) || schema;
}

function typeName(schema: Schema, all: Document): string {
  const parts = schema.oneOf ?? schema.anyOf;
  if (parts) return parts.map((part) => typeName(part, all)).join(" | ");
  if (schema.$ref) return schema.$ref.split("/").pop() ?? "";
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  const type = Array.isArray(schema.type) ? schema.type.join(" | ") : (schema.type ?? "any");
  return schema.items ? `list of ${typeName(schema.items, all)}` : schema.format ? `${type}, ${schema.format}` : type;
}

function SchemaView({ schema, all, depth }: { schema: Schema; all: Document; depth: number }) {
  const shown = resolve(schema, all);
  const inner = shown.items ? resolve(shown.items, all) : shown;
  if (!inner.properties || depth > DEPTH_MAX) return <div class="schema">{typeName(shown, all)}</div>;
  return (
    <div class="schema">
      {Object.entries(inner.properties).map(([name, property]) => {
        const nested = resolve(property.items ?? property, all);
        return (
          <div key={name}>
            <b>{name}</b> <span class="muted">{typeName(property, all)}</span>
            {inner.required?.includes(name) && " *"}
            {(property.description ?? nested.description) && <span class="note"> {property.description ?? nested.description}</span>}
            {nested.properties && depth < DEPTH_MAX && <SchemaView schema={nested} all={all} depth={depth + 1} />}
          </div>
        );
      })}
    </div>
  );
}
