// Jobs as CloudEvents' own SDK publishes them, one a line, for main.go to read.
// usage: node events.mjs SCHEMAS >FILE, in a folder with what `make schemas` installs there.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const require = createRequire(resolve("package.json"));
const { CloudEvent, HTTP } = require("cloudevents");

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
for (const kind of ["job", "capture"]) {
  for (const job of JSON.parse(readFileSync(join(process.argv[2], kind + ".json"), "utf8")).examples) {
    const about = { id: job.id, source: "https://billing.shop.example/eu", type: "example.shop.renewal.due", datacontenttype: "application/json", traceparent };
    const bytes = Buffer.from(JSON.stringify(job));
    for (const [mode, message] of Object.entries({
      structured: HTTP.structured(new CloudEvent({ ...about, data: job })),
      base64: HTTP.structured(new CloudEvent({ ...about, data: bytes })),
      binary: HTTP.binary(new CloudEvent({ ...about, data: job })),
    })) {
      console.log(JSON.stringify({ kind, mode, traceparent, headers: message.headers, body: message.body, job }));
    }
  }
}
