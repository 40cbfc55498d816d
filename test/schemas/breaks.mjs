// Computes the ids of breaks by the formula in messages/README.md, with nothing of ours, and compares them with the golden ones.
// usage: node breaks.mjs break-ids.json
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const namespace = Buffer.from("6ba7b8119dad11d180b400c04fd430c8", "hex"); // of URLs, https://www.rfc-editor.org/rfc/rfc9562#section-6.6

const quote = (text) => encodeURIComponent(text).replace(/[!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());

const uuid5 = (name) => {
  const id = createHash("sha1").update(namespace).update(name).digest().subarray(0, 16);
  id[6] = (id[6] & 0x0f) | 0x50;
  id[8] = (id[8] & 0x3f) | 0x80;
  return id.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
};

const vectors = JSON.parse(readFileSync(process.argv[2], "utf8"));
const wrong = vectors.filter(({ kind, account, about, id }) => uuid5("urn:renewals:break:" + [kind, account, ...about.map(quote)].join("/")) !== id);
for (const v of wrong) console.error("another id:", JSON.stringify(v));
if (wrong.length > 0 || vectors.length === 0) process.exit(1);
console.log(`${vectors.length} ids of breaks are what the formula says`);
