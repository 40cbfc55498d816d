"""What publishers, consumers of results, operators and monitors do through nats.py, and what consumers must not be able to do.
usage: python3 roles.py FOLDER: the NATS contexts of everybody, ROLE.json, and the job to publish, job.json."""
import asyncio
import json
import pathlib
import ssl
import sys

import nats
from nats.js.api import AckPolicy, ConsumerConfig

folder = pathlib.Path(sys.argv[1])
job = (folder / "job.json").read_bytes()
journal = "RENEWAL_JOURNAL"
filters = ["renewals.paid.>", "renewals.dunning.>"]
wrong = []
done = 0


class As:
    """A connection as one of the roles, with what the server refused it."""

    def __init__(self, role):
        self.role, self.errors = role, []
        self.context = json.loads((folder / f"{role}.json").read_text())

    async def __aenter__(self):
        async def told(error):
            self.errors.append(str(error))

        c = self.context
        tls = ssl.create_default_context(cafile=c["ca"])
        tls.load_cert_chain(c["cert"], c["key"])
        self.nc = await nats.connect(c["url"], nkeys_seed=c["nkey"], tls=tls, inbox_prefix=c["inbox_prefix"].encode(), error_cb=told)
        self.js = self.nc.jetstream(domain=c["jetstream_domain"] or None, timeout=1)
        return self

    async def __aexit__(self, *_):
        await self.nc.close()
        if self.errors:
            wrong.append(f"{self.role}: refused: {self.errors}")

    async def does(self, what, act, check=lambda got: True):
        global done
        done += 1
        try:
            got = await act
            if not check(got):
                wrong.append(f"{self.role}: {what}: {got}")
            return got
        except Exception as e:
            wrong.append(f"{self.role}: {what}: {e!r}")

    async def refused(self, what, act):
        global done
        done += 1
        try:
            wrong.append(f"{self.role} may {what}: {await act}")
        except Exception:
            pass  # a refusal is a time-out here, and an error beside it
        for _ in range(100):
            if self.errors:
                break
            await asyncio.sleep(0.02)
        if not any("permissions violation" in e.lower() for e in self.errors):
            wrong.append(f"{self.role}: {what}: {self.errors}, expected a permission that is missing")
        self.errors.clear()


async def publisher():
    async with As("publisher") as my:
        header = {"Nats-Msg-Id": json.loads(job)["id"]}
        await my.does("publish", my.js.publish("renewals.due.default", job, headers=header), lambda ack: ack.stream == "RENEWALS")
        await my.does("publish again", my.js.publish("renewals.due.default", job, headers=header), lambda ack: ack.duplicate)
        for subject in "renewals.due.other", "renewals.paid.s.p.0.default":
            await my.refused("publish to " + subject, my.js.publish(subject, job))


async def ordered(js, stream, n):
    sub = await js.subscribe("", stream=stream, config=ConsumerConfig(filter_subjects=filters if stream == journal else None), ordered_consumer=True)
    got = [(await sub.next_msg(timeout=5)).subject for _ in range(n)]
    await sub.unsubscribe()
    return got


async def consumer():
    async with As("consumer") as my:
        js = my.js
        await my.does("account_info", js.account_info())
        await my.does("look at the stream", js.stream_info(journal), lambda i: i.state.messages >= 3)
        durable = ConsumerConfig(durable_name="python", ack_policy=AckPolicy.EXPLICIT, filter_subjects=filters)
        await my.does("a durable with two filters", js.add_consumer(journal, durable))
        sub = await my.does("bind it", js.pull_subscribe_bind("python", journal))
        got = await my.does("read", sub.fetch(2, timeout=5), lambda got: len(got) == 2)
        for m in got or []:
            await my.does("ack and wait", m.ack_sync(timeout=5))
        await my.does("acks that arrived", js.consumer_info(journal, "python"), lambda i: i.num_ack_pending == 0)
        await my.does("an ordered consumer", ordered(js, journal, 2), lambda got: len(got) == 2)
        named = ConsumerConfig(filter_subjects=filters, ack_policy=AckPolicy.EXPLICIT)
        await my.does("pull_subscribe", js.pull_subscribe("", durable="pulls", stream=journal, config=named))
        for name in "python", "pulls":
            await my.does("delete " + name, js.delete_consumer(journal, name))
        await my.refused("write a result", js.publish("renewals.paid.s.p.0.default", b"{}"))
        await my.refused("purge", js.purge_stream(journal))
        await my.refused("delete a record", js.delete_msg(journal, 1))
        await my.refused("delete the stream", js.delete_stream(journal))
        for stream in "RENEWALS", "RENEWAL_DEAD":
            await my.refused("read " + stream, js.get_msg(stream, 1))
            await my.refused("make a consumer on " + stream, js.add_consumer(stream, ConsumerConfig(durable_name="mine", ack_policy=AckPolicy.EXPLICIT)))
            await my.refused("make an unnamed consumer on " + stream, js.add_consumer(stream, ConsumerConfig(ack_policy=AckPolicy.NONE)))


async def operator():
    async with As("operator") as my:
        await my.does("account_info", my.js.account_info())
        await my.does("the last record of a renewal", my.js.get_last_msg(journal, "renewals.*.1234001.2026-12.*.*"))
        await my.does("the journal in order", ordered(my.js, journal, 2), lambda got: len(got) == 2)
        await my.does("dead letters in order", ordered(my.js, "RENEWAL_DEAD", 1), lambda got: len(got) == 1)
        bucket = await my.does("who works", my.js.key_value("RENEWAL_WORKERS"))
        await my.does("watch who works", watch(bucket))
        await my.refused("purge the journal", my.js.purge_stream(journal))
        await my.refused("claim", my.js.publish("renewals.charging.s.p.0.default", b"{}"))


async def watch(bucket):
    watcher = await bucket.watchall()
    await watcher.updates(timeout=1)
    await watcher.stop()


async def monitor():
    async with As("monitor") as my:
        await my.does("account_info", my.js.account_info())
        for stream in "RENEWALS", "RENEWALS_LATER", journal, "RENEWAL_DEAD":
            await my.does("look at " + stream, my.js.stream_info(stream))
        bucket = await my.does("who works", my.js.key_value("RENEWAL_WORKERS"))
        await my.does("watch who works", watch(bucket))
        await my.refused("publish a job", my.js.publish("renewals.due.default", job))


async def provisioner():
    async with As("provisioner") as my:
        await my.does("account_info", my.js.account_info())
        info = await my.does("look at the journal", my.js.stream_info(journal))
        charge = await my.does("look at a consumer", my.js.consumer_info("RENEWALS", "charge-default"))
        await my.does("make a consumer", my.js.add_consumer("RENEWALS", charge.config.evolve(name="charge-default")))
        await my.refused("give it other jobs", my.js.add_consumer("RENEWALS", charge.config.evolve(name="charge-default", filter_subject="renewals.due.other")))
        await my.refused("purge", my.js.purge_stream(info.config.name))


async def main():
    for role in publisher, consumer, operator, monitor, provisioner:
        await role()


asyncio.run(main())
if wrong:
    sys.exit("\n".join(wrong))
print(f"{done} acts of five roles, as they are meant")
