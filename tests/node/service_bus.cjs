// Uses a hosted Service Bus namespace by the stock client; prints what it saw as one JSON object.
//   node service_bus.cjs CONNECTION_STRING QUEUE TOPIC (tcp|ws)
"use strict";
const { ServiceBusAdministrationClient, ServiceBusClient } = require("@azure/service-bus");

const [string, queue, topic, transport] = process.argv.slice(2);
const options = { retryOptions: { maxRetries: 0 } };
if (transport === "ws") options.webSocketOptions = { webSocket: require("ws") };
const client = new ServiceBusClient(string, options);

async function receive(receiver, count) {
  const messages = [];
  const end = Date.now() + 30_000;
  while (messages.length < count && Date.now() < end) {
    messages.push(...(await receiver.receiveMessages(count - messages.length, { maxWaitTimeInMs: 2_000 })));
  }
  return messages;
}

const shown = ({ body, applicationProperties, messageId, subject, deliveryCount, state, sequenceNumber }) => ({
  body, applicationProperties, messageId, subject, deliveryCount, state, sequenceNumber: Number(sequenceNumber),
});

async function queues(seen) {
  const sender = client.createSender(queue);
  await sender.sendMessages({ body: "single", messageId: "m1", subject: "s", applicationProperties: { text: "ü", n: 5 } });
  await sender.sendMessages([{ body: "complete" }, { body: "abandon" }, { body: "defer" }, { body: "dead" }]);
  const batch = await sender.createMessageBatch();
  batch.tryAddMessage({ body: { batched: true } });
  await sender.sendMessages(batch);
  const receiver = client.createReceiver(queue);
  seen.peeked = (await receiver.peekMessages(10)).map(shown);
  const [single, complete, abandon, defer, dead, batched] = await receive(receiver, 6);
  seen.received = [single, complete, abandon, defer, dead, batched].map(shown);
  seen.renewed = (await receiver.renewMessageLock(single)) > single.enqueuedTimeUtc;
  for (const message of [single, complete, batched]) await receiver.completeMessage(message);
  await receiver.abandonMessage(abandon, { again: true });
  await receiver.deferMessage(defer);
  await receiver.deadLetterMessage(dead, { deadLetterReason: "broken", deadLetterErrorDescription: "both wheels" });
  const [again] = await receive(receiver, 1);
  seen.again = shown(again);
  await receiver.completeMessage(again);
  const [deferred] = await receiver.receiveDeferredMessages(defer.sequenceNumber);
  seen.deferred = shown(deferred);
  await receiver.completeMessage(deferred);
  const morgue = client.createReceiver(queue, { subQueueType: "deadLetter", receiveMode: "receiveAndDelete" });
  const [found] = await receive(morgue, 1);
  seen.dead = [found.body, found.deadLetterReason, found.deadLetterErrorDescription, found.deadLetterSource];
  const later = await sender.scheduleMessages([{ body: "later" }, { body: "never" }], new Date(Date.now() + 1_000));
  await sender.cancelScheduledMessages(later[1]);
  seen.later = (await receive(receiver, 1)).map(shown);
  for (const each of [sender, receiver, morgue]) await each.close();
}

async function topics(seen) {
  const rules = client.createRuleManager(topic, "s");
  await rules.deleteRule("$Default");
  await rules.createRule("hot", { subject: "hot", applicationProperties: { line: 1 } });
  seen.rules = [];
  for await (const rule of rules.listRules()) seen.rules.push(rule);
  const sender = client.createSender(topic);
  await sender.sendMessages([
    { body: "a", subject: "hot", applicationProperties: { line: 1 } },
    { body: "b", subject: "hot", applicationProperties: { line: 2 } },
  ]);
  const receiver = client.createReceiver(topic, "s");
  const subscribed = [];
  await new Promise((resolve, reject) => {
    const subscription = receiver.subscribe({
      processMessage: async (message) => {
        subscribed.push(shown(message));
        setTimeout(() => subscription.close().then(resolve, reject), 200);
      },
      processError: async ({ error }) => reject(error),
    });
  });
  seen.subscribed = subscribed;
  await receiver.close();
  await sender.close();
}

async function refusals(seen) {
  try {
    await client.createSender("nothing").sendMessages({ body: "x" });
  } catch (error) {
    seen.missing = error.code;
  }
}

async function administered(seen) {
  const manager = new ServiceBusAdministrationClient(string);
  const { name, maxDeliveryCount } = await manager.createQueue(`${queue}-made`, { maxDeliveryCount: 3 });
  seen.made = { name, maxDeliveryCount, exists: await manager.queueExists(name) };
  await manager.deleteQueue(name);
  seen.made.gone = !(await manager.queueExists(name));
}

async function main() {
  const seen = {};
  await queues(seen);
  await topics(seen);
  await refusals(seen);
  if (transport !== "ws") await administered(seen);
  return seen;
}

main()
  .then((seen) => console.log(JSON.stringify(seen, (_, value) => (typeof value === "bigint" ? String(value) : value))))
  .catch((error) => {
    console.log(JSON.stringify({ error: { code: error.code, name: error.name, message: error.message } }));
    process.exitCode = 1;
  })
  .finally(() => client.close());
