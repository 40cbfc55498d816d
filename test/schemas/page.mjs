// The page that AsyncAPI's own component makes of the contract: no subject in it loses a part to HTML or Markdown, where <kind> is
// a tag and * an emphasis.
// usage: node page.mjs ASYNCAPI, in a folder with what `make schemas` installs there.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const require = createRequire(resolve("package.json"));
const { Parser } = require("@asyncapi/parser");
const { createElement } = require("react");
const { renderToStaticMarkup } = require("react-dom/server");
const { default: Page } = require("@asyncapi/react-component/lib/cjs/containers/AsyncApi/Standalone");
const { Markdown } = require("@asyncapi/react-component/lib/cjs/components/Markdown");

const bare = (text) => text.replace(/\s+/g, "");
const entities = { "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&#x27;": "'", "&nbsp;": " ", "&amp;": "&" };
const seen = (html) => bare(html.replace(/<[^>]*>/g, "").replace(/&#?\w+;/g, (e) => entities[e] ?? e));
const wrong = [];

const source = resolve(process.argv[2]);
const { document, diagnostics } = await new Parser().parse(readFileSync(source, "utf8"), { source });
if (!document) {
  console.error(diagnostics.map((d) => `${d.path.join(".")}: ${d.message}`).join("\n"));
  process.exit(1);
}

// Each text, those of schemas that the page shows folded among them, as the component shows it.
const texts = new Map();
const visited = new Set();
const collect = (value, path) => {
  if (typeof value !== "object" || value === null || visited.has(value)) return;
  visited.add(value);
  for (const [name, part] of Object.entries(value)) {
    if (["description", "summary"].includes(name) && typeof part === "string") texts.set(part, `${path}.${name}`);
    else if (name !== "examples") collect(part, `${path}.${name}`);
  }
};
collect(document.json(), "asyncapi");
for (const [text, path] of texts) {
  const got = seen(renderToStaticMarkup(createElement(Markdown, null, text)));
  if (got !== bare(text.replaceAll("`", ""))) wrong.push(`${path}: ${text}\n  is shown as: ${got}`);
}

// And the whole page.
const page = seen(renderToStaticMarkup(createElement(Page, { schema: document, config: { show: { sidebar: true } } })));
for (const channel of document.channels()) if (!page.includes(channel.address())) wrong.push(`the page has no ${channel.address()}`);
const server = document.servers().get("jetstream").description();
if (!page.includes(bare(server.replaceAll("`", "")))) wrong.push(`the page does not have the words: ${server}`);

if (wrong.length > 0) {
  console.error(wrong.join("\n"));
  process.exit(1);
}
console.log(`the page of the contract: ${texts.size} texts and ${document.channels().length} channels, each as it is written`);
process.exit(0); // the component keeps a DOM alive
