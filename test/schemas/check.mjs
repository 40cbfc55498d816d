// What consumers of results generate from the published schemas, tried with results of today and of tomorrow.
// usage: node check.mjs SCHEMAS, in a folder with what `make schemas` installs there.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const require = createRequire(resolve("package.json"));
const Ajv = require("ajv/dist/2020").default;
const addFormats = require("ajv-formats").default;
const { compile } = require("json-schema-to-typescript");

const folder = process.argv[2];
const names = readdirSync(folder).map((f) => f.replace(/\.json$/, ""));
const schemas = Object.fromEntries(names.map((n) => [n, JSON.parse(readFileSync(join(folder, n + ".json"), "utf8"))]));
const jobs = new Set(["job", "capture"]); // what is published to us is a closed list
const open = ["reason", "category", "fix_by", "corrects", "fraud_status", "token_status", "error_code"];
const wrong = [];

const tomorrow = (schema) => {
  const result = { ...schema.examples[0], a_field_of_tomorrow: { of: 1 } };
  for (const field of open) if (field in schema.properties) result[field] = "tomorrow";
  return result;
};

// ajv, as strict as it gets: an unknown keyword or format in a schema is an error.
const ajv = addFormats(new Ajv({ strict: true, strictTypes: false, allErrors: true }));
for (const name of names) {
  const validate = ajv.compile(schemas[name]);
  const take = (what, value, want) => {
    if (validate(value) !== want) wrong.push(`ajv: ${name}, ${what}: ${want ? ajv.errorsText(validate.errors) : "accepted"}`);
  };
  schemas[name].examples.forEach((example, i) => take(`example ${i}`, example, true));
  take("an empty object", {}, false);
  take("of tomorrow", tomorrow(schemas[name]), !jobs.has(name));
}

// TypeScript: a result of tomorrow has the generated type.
mkdirSync("generated", { recursive: true });
for (const name of names.filter((n) => !jobs.has(n))) {
  const type = schemas[name].title.replace(/\W/g, "");
  const source = await compile(schemas[name], type, { bannerComment: "", additionalProperties: true });
  writeFileSync(join("generated", name + ".ts"), `${source}\nexport const tomorrow: ${type} = ${JSON.stringify(tomorrow(schemas[name]))};\n`);
}
try {
  execFileSync("node_modules/.bin/tsc", ["--noEmit", "--strict", "--skipLibCheck", ...names.filter((n) => !jobs.has(n)).map((n) => join("generated", n + ".ts"))], { encoding: "utf8" });
} catch (e) {
  wrong.push("TypeScript: " + e.stdout);
}

// Java: no list of a result becomes an enum, which would refuse a value of tomorrow while it is read; amounts are long.
for (const name of names.filter((n) => !jobs.has(n))) {
  const out = join("generated", "java", name);
  mkdirSync(out, { recursive: true });
  execFileSync("node_modules/.bin/quicktype", ["--quiet", "--src-lang", "schema", "--lang", "java", "--just-types", "--package", "renewals." + name, "--top-level", "Result", "-o", join(out, "Result.java"), join(folder, name + ".json")], { stdio: ["ignore", "inherit", "inherit"] });
  const files = readdirSync(out);
  for (const file of files) {
    const text = readFileSync(join(out, file), "utf8");
    if (/\benum\b/.test(text)) wrong.push(`Java: ${name}: ${file} is an enum`);
    for (const [, type, field] of text.matchAll(/private (\w+) (\w*[aA]mount);/g)) if (type.toLowerCase() !== "long") wrong.push(`Java: ${name}: ${field} is ${type}, expected a long`);
  }
}

if (wrong.length > 0) {
  console.error(wrong.join("\n"));
  process.exit(1);
}
console.log(`${names.length} schemas: ajv, TypeScript and Java take the results of today and of tomorrow`);
