// What each role does through the official JavaScript client, and what it must not be able to do.
// usage: node roles.mjs FOLDER: the NATS contexts of everybody, ROLE.json, and the job to publish, job.json.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { connect, headers, nkeyAuthenticator } from "@nats-io/transport-node";
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";

const folder = process.argv[2];
const job = readFileSync(join(folder, "job.json"));
const filters = ["renewals.paid.>", "renewals.dunning.>"];
const journal = "RENEWAL_JOURNAL";
const wrong = [];
let done = 0;

async function as(role, act) {
  const c = JSON.parse(readFileSync(join(folder, role + ".json"), "utf8"));
  const nc = await connect({
    servers: c.url, inboxPrefix: c.inbox_prefix, name: role, timeout: 5000,
    authenticator: nkeyAuthenticator(new TextEncoder().encode(readFileSync(c.nkey, "utf8").trim())),
    tls: { caFile: c.ca, certFile: c.cert, keyFile: c.key },
  });
  const opts = { domain: c.jetstream_domain || undefined, watcherPrefix: c.inbox_prefix, timeout: 5000 };
  const does = async (what, f, check = () => true) => {
    try {
      const got = await f();
      if (!check(got)) wrong.push(`${role}: ${what}: ${JSON.stringify(got)}`);
      done++;
      return got;
    } catch (e) {
      wrong.push(`${role}: ${what}: ${e.message}`);
    }
  };
  const refused = async (what, f) => {
    try {
      wrong.push(`${role} may ${what}: ${JSON.stringify(await f())}`);
    } catch (e) {
      if (!/permission/i.test(`${e.message} ${e.cause?.message}`)) wrong.push(`${role}: ${what}: ${e.message}, expected a permission that is missing`);
      done++;
    }
  };
  await act({ nc, opts, does, refused, js: jetstream(nc, opts) });
  await nc.drain();
}

// read takes n messages, or what comes within two seconds.
async function read(consumer, n) {
  const got = [];
  for await (const m of await consumer.fetch({ max_messages: n, expires: 2000 })) {
    got.push(m.subject);
    m.ack();
  }
  return got;
}

process.on("uncaughtException", (e) => { console.error(e.message, e.cause?.message ?? ""); process.exit(1); });

await as("publisher", async ({ js, does, refused, nc }) => {
  const msgID = JSON.parse(job).id;
  await does("publish", () => js.publish("renewals.due.default", job, { msgID }), (ack) => ack.stream === "RENEWALS" && !ack.duplicate);
  await does("publish again", () => js.publish("renewals.due.default", job, { msgID }), (ack) => ack.duplicate);
  for (const subject of ["renewals.due.other", "renewals.paid.s.p.0.default", "renewals.dead.k.default"]) await refused("publish to " + subject, () => js.publish(subject, job));
  await refused("ask for JetStream", () => jetstreamManager(nc));
  await refused("read a job", () => nc.request("$JS.API.STREAM.MSG.GET.RENEWALS", '{"seq":1}'));
});

await as("consumer", async ({ nc, js, opts, does, refused }) => {
  const jsm = await does("jetstreamManager", () => jetstreamManager(nc, opts));
  if (!jsm) return;
  await does("look at the stream", () => jsm.streams.info(journal), (i) => i.state.messages >= 3);
  const durable = { durable_name: "two-filters", ack_policy: AckPolicy.Explicit, filter_subjects: filters };
  await does("a durable with two filters", () => jsm.consumers.add(journal, durable));
  await does("the same again", () => jsm.consumers.add(journal, durable));
  const consumer = await does("bind it", () => js.consumers.get(journal, "two-filters"));
  await does("read", () => read(consumer, 2), (got) => got.length === 2 && got.every((s) => /^renewals\.(paid|dunning)\./.test(s)));
  await does("acks that arrive", async () => {
    for (;;) if ((await consumer.info()).num_ack_pending === 0) return true;
  });
  await does("a durable with one filter", () => jsm.consumers.add(journal, { durable_name: "one-filter", ack_policy: AckPolicy.Explicit, filter_subject: filters[0] }));
  await does("a consumer without a name", () => jsm.consumers.add(journal, { ack_policy: AckPolicy.None, filter_subjects: filters }));
  for (const filter_subjects of [undefined, filters[0], filters]) {
    await does(`an ordered consumer, filters ${filter_subjects}`, async () => read(await js.consumers.get(journal, { filter_subjects }), 3), (got) => got.length >= (filter_subjects ? 1 : 3));
  }
  await does("an ordered push consumer", async () => {
    const messages = await (await js.consumers.getPushConsumer(journal, { filter_subjects: filters[0], deliver_policy: DeliverPolicy.All })).consume();
    for await (const m of messages) return m.subject;
  }, (s) => s.startsWith("renewals.paid."));
  for (const name of ["two-filters", "one-filter"]) await does("delete " + name, () => jsm.consumers.delete(journal, name));
  await refused("write a result", () => js.publish("renewals.paid.s.p.0.default", "{}"));
  await refused("publish a job", () => js.publish("renewals.due.default", job));
  await refused("purge", () => jsm.streams.purge(journal));
  await refused("delete a record", () => jsm.streams.deleteMessage(journal, 1));
  await refused("delete the stream", () => jsm.streams.delete(journal));
  await refused("change the stream", () => jsm.streams.update(journal, { max_age: 1 }));
  await refused("make a stream", () => jsm.streams.add({ name: "MINE", subjects: ["mine"] }));
  for (const stream of ["RENEWALS", "RENEWALS_LATER", "RENEWAL_DEAD"]) {
    await refused("look at " + stream, () => jsm.streams.info(stream));
    await refused("read " + stream, () => jsm.streams.getMessage(stream, { seq: 1 }));
    for (const config of [{ ack_policy: AckPolicy.None }, { name: "mine", ack_policy: AckPolicy.None }, { durable_name: "mine", ack_policy: AckPolicy.Explicit, filter_subjects: filters }]) {
      await refused(`make a consumer on ${stream}`, () => jsm.consumers.add(stream, config));
    }
  }
  // A consumer of one stream that is asked for under the name of another.
  await does("no other stream by the body", () => nc.request("$JS.API.CONSUMER.CREATE." + journal, '{"stream_name":"RENEWALS","config":{"ack_policy":"none"}}').then((m) => m.json()), (a) => a.error?.err_code === 10049 || a.error?.code === 400);
});

await as("operator", async ({ nc, js, opts, does, refused }) => {
  const jsm = await does("jetstreamManager", () => jetstreamManager(nc, opts));
  for (const stream of ["RENEWALS", "RENEWALS_LATER", journal, "RENEWAL_DEAD"]) await does("look at " + stream, () => jsm.streams.info(stream));
  await does("the last record of a renewal", () => jsm.streams.getMessage(journal, { last_by_subj: "renewals.*.1234001.2026-12.*.*" }), (m) => m !== null);
  await does("dead letters in order", async () => read(await js.consumers.get("RENEWAL_DEAD"), 1), (got) => got.length === 1);
  await does("a durable on dead letters", () => jsm.consumers.add("RENEWAL_DEAD", { durable_name: "two", ack_policy: AckPolicy.None, filter_subjects: ["renewals.dead.*.default", "renewals.dead.*.other"] }));
  await does("delete it", () => jsm.consumers.delete("RENEWAL_DEAD", "two"));
  await does("the journal in order", async () => read(await js.consumers.get(journal, { filter_subjects: filters }), 2), (got) => got.length === 2);
  await does("who works", async () => (await (await new Kvm(js).open("RENEWAL_WORKERS")).status()).bucket);
  await does("watch who works", async () => { for await (const k of await (await new Kvm(js).open("RENEWAL_WORKERS")).keys()) return k; });
  await does("a job", () => { const h = headers(); h.set("Nats-Msg-Id", JSON.parse(job).id); return js.publish("renewals.due.default", job, { headers: h }); }, (ack) => ack.duplicate);
  await refused("purge the journal", () => jsm.streams.purge(journal));
  await refused("delete a record", () => jsm.streams.deleteMessage(journal, 1));
  await refused("change the journal", () => jsm.streams.update(journal, { max_age: 1 }));
  await refused("take jobs", () => nc.request("$JS.API.CONSUMER.MSG.NEXT.RENEWALS.charge-default"));
  await refused("claim", () => js.publish("renewals.charging.s.p.0.default", "{}"));
  for (const config of [{ ack_policy: AckPolicy.None }, { durable_name: "mine", ack_policy: AckPolicy.Explicit, filter_subjects: ["renewals.due.default"] }]) await refused("consume jobs", () => jsm.consumers.add("RENEWALS", config));
  await does("drop a dead letter", () => jsm.streams.deleteMessage("RENEWAL_DEAD", 1));
});

await as("monitor", async ({ nc, js, opts, does, refused }) => {
  const jsm = await does("jetstreamManager", () => jetstreamManager(nc, opts));
  for (const stream of ["RENEWALS", "RENEWALS_LATER", journal, "RENEWAL_DEAD"]) await does("look at " + stream, () => jsm.streams.info(stream));
  await does("the oldest job", () => jsm.streams.getMessage("RENEWALS", { next_by_subj: "renewals.due.default", seq: 1 }), (m) => m !== null);
  await does("watch who works", async () => { for await (const k of await (await new Kvm(js).open("RENEWAL_WORKERS")).keys()) return k; });
  await refused("publish a job", () => js.publish("renewals.due.default", job));
  await refused("read the journal in order", () => jsm.consumers.add(journal, { ack_policy: AckPolicy.None }));
  await refused("consume jobs", () => jsm.consumers.add("RENEWALS", { durable_name: "mine", ack_policy: AckPolicy.Explicit, filter_subjects: ["renewals.due.default"] }));
  await refused("purge", () => jsm.streams.purge("RENEWALS"));
  await refused("drop a dead letter", () => jsm.streams.deleteMessage("RENEWAL_DEAD", 1));
});

await as("provisioner", async ({ nc, js, opts, does, refused }) => {
  const jsm = await does("jetstreamManager", () => jetstreamManager(nc, opts));
  const info = await does("look at the journal", () => jsm.streams.info(journal));
  await does("change it", () => jsm.streams.update(journal, { description: info.config.description }));
  const charge = await does("look at a consumer", () => jsm.consumers.info("RENEWALS", "charge-default"));
  await does("make a consumer", () => jsm.consumers.add("RENEWALS", charge.config));
  await refused("give it other jobs", () => jsm.consumers.add("RENEWALS", { ...charge.config, filter_subject: "renewals.due.other" }));
  await refused("purge", () => jsm.streams.purge(journal));
  await refused("delete the journal", () => jsm.streams.delete(journal));
  await refused("delete a record", () => jsm.streams.deleteMessage(journal, 1));
  await refused("read jobs", () => jsm.streams.getMessage("RENEWALS", { seq: 1 }));
  await refused("write a result", () => js.publish("renewals.paid.s.p.0.default", "{}"));
});

await as("worker", async ({ nc, js, opts, does, refused }) => {
  const jsm = await does("jetstreamManager", () => jetstreamManager(nc, opts));
  const consumer = await does("bind its jobs", () => js.consumers.get("RENEWALS", "charge-default"));
  await does("take a job and give it back", async () => {
    const m = await consumer.next({ expires: 5000 });
    m.nak();
    return m.subject;
  }, (s) => s === "renewals.due.default");
  await does("the journal in order", async () => read(await js.consumers.get(journal, { filter_subjects: filters }), 2), (got) => got.length === 2);
  await does("the last record of a renewal", () => jsm.streams.getMessage(journal, { last_by_subj: "renewals.*.1234001.2026-12.*.*" }), (m) => m !== null);
  await does("say that it is there", async () => (await new Kvm(js).open("RENEWAL_WORKERS")).put("worker.javascript", "{}"));
  await refused("speak for another account", () => js.publish("renewals.paid.s.p.0.other", "{}"));
  await refused("publish a job", () => js.publish("renewals.due.default", job));
  await refused("purge", () => jsm.streams.purge(journal));
  await refused("delete its jobs' consumer", () => jsm.consumers.delete("RENEWALS", "charge-default"));
  await refused("another consumer of jobs", () => jsm.consumers.add("RENEWALS", { durable_name: "mine", ack_policy: AckPolicy.Explicit, filter_subjects: ["renewals.due.default"] }));
  await refused("drop a dead letter", () => jsm.streams.deleteMessage("RENEWAL_DEAD", 1));
});

if (wrong.length > 0) {
  console.error(wrong.join("\n"));
  process.exit(1);
}
console.log(`${done} acts of six roles, as they are meant`);
