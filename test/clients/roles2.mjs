// What publishers and consumers of results do through the client that came before @nats-io: nats 2.
// usage: node roles2.mjs FOLDER: the NATS contexts of everybody, ROLE.json, and the job to publish, job.json.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { AckPolicy, connect, consumerOpts, nkeyAuthenticator } from "nats";

const folder = process.argv[2];
const job = readFileSync(join(folder, "job.json"));
const filters = ["renewals.paid.>", "renewals.dunning.>"];
const journal = "RENEWAL_JOURNAL";
const expect = (what, ok) => { if (!ok) throw new Error(what); };

async function as(role, act) {
  const c = JSON.parse(readFileSync(join(folder, role + ".json"), "utf8"));
  const nc = await connect({
    servers: c.url, inboxPrefix: c.inbox_prefix, authenticator: nkeyAuthenticator(new TextEncoder().encode(readFileSync(c.nkey, "utf8").trim())),
    tls: { caFile: c.ca, certFile: c.cert, keyFile: c.key },
  });
  await act(nc, nc.jetstream());
  await nc.drain();
}

async function read(consumer, n) {
  const got = [];
  for await (const m of await consumer.fetch({ max_messages: n, expires: 2000 })) {
    got.push(m.subject);
    m.ack();
  }
  expect(`read ${n}: ${got}`, got.length === n);
}

await as("publisher", async (nc, js) => {
  const msgID = JSON.parse(job).id;
  expect("published", !(await js.publish("renewals.due.default", job, { msgID })).duplicate);
  expect("a duplicate", (await js.publish("renewals.due.default", job, { msgID })).duplicate);
});
await as("consumer", async (nc, js) => {
  const jsm = await nc.jetstreamManager();
  expect("records", (await jsm.streams.info(journal)).state.messages >= 3);
  await jsm.consumers.add(journal, { durable_name: "two", ack_policy: AckPolicy.Explicit, filter_subjects: filters });
  await read(await js.consumers.get(journal, "two"), 2);
  await read(await js.consumers.get(journal, { filterSubjects: filters }), 2); // in order
  const push = consumerOpts().orderedConsumer();
  push.bindStream(journal);
  for await (const m of await js.subscribe("renewals.paid.>", push)) {
    expect(m.subject, m.subject.startsWith("renewals.paid."));
    break;
  }
  await jsm.consumers.delete(journal, "two");
});
console.log("publisher and consumer, by nats 2: as they are meant");
