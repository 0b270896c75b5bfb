// Sends to a hosted event hub and reads from it by the stock client; prints what it saw as one JSON object.
//   node event_hubs.cjs HOST_OR_STRING ENTITY (tcp|ws) [TOKEN]
"use strict";
const { EventHubBufferedProducerClient, EventHubConsumerClient, EventHubProducerClient, earliestEventPosition } =
  require("@azure/event-hubs");

const [place, entity, transport, token] = process.argv.slice(2);
const options = { retryOptions: { maxRetries: 0 } };
if (transport === "ws") options.webSocketOptions = { webSocket: require("ws") };
const credential = { getToken: async () => ({ token, expiresOnTimestamp: Date.now() + 600_000 }) };
const proof = token ? [place, entity, credential, options] : [place, entity, options];

async function send() {
  const producer = new EventHubProducerClient(...proof);
  try {
    const seen = { partitions: await producer.getPartitionIds() };
    const batch = await producer.createBatch({ partitionKey: "press-1" });
    for (let number = 0; number < 3; number++) {
      batch.tryAdd({ body: { number }, properties: { number, flag: true, text: "ü" }, messageId: `m${number}` });
    }
    await producer.sendBatch(batch);
    await producer.sendBatch([{ body: "direct", contentType: "text/plain" }], { partitionId: "1" });
    seen.facts = await producer.getPartitionProperties("1");
    return seen;
  } finally {
    await producer.close();
  }
}

async function sendBuffered() {
  const failed = [];
  const producer = new EventHubBufferedProducerClient(...proof.slice(0, -1), {
    ...options,
    onSendEventsErrorHandler: async (context) => void failed.push(String(context.error)),
  });
  for (let number = 0; number < 20; number++) {
    await producer.enqueueEvent({ body: `buffered ${number}` }, { partitionKey: `k${number % 3}` });
  }
  await producer.close({ flush: true });
  return failed;
}

async function read(wanted) {
  const consumer = new EventHubConsumerClient("$Default", ...proof);
  const events = [];
  let subscription;
  try {
    await new Promise((resolve, reject) => {
      subscription = consumer.subscribe(
        {
          processEvents: async (got, context) => {
            for (const event of got) events.push({ ...shown(event), partition: context.partitionId });
            if (events.length >= wanted) resolve();
          },
          processError: async (error) => reject(error),
        },
        { startPosition: earliestEventPosition, maxWaitTimeInSeconds: 1 },
      );
    });
  } finally {
    if (subscription) await subscription.close();
    await consumer.close();
  }
  return events;
}

function shown(event) {
  const { body, properties, partitionKey, sequenceNumber, offset, messageId, contentType } = event;
  return { body, properties, partitionKey, sequenceNumber, offset: String(offset), messageId, contentType };
}

async function main() {
  const seen = await send();
  seen.failed = token ? [] : await sendBuffered();
  seen.events = await read(token ? 4 : 24);
  return seen;
}

main()
  .then((seen) => console.log(JSON.stringify(seen, (_, value) => (typeof value === "bigint" ? String(value) : value))))
  .catch((error) => {
    console.log(JSON.stringify({ error: { code: error.code, name: error.name, message: error.message } }));
    process.exitCode = 1;
  });
