// Bulk calls of azure-iothub's Registry. Arguments: the service's connection string, the beginning of the device ids.
'use strict';

const { Registry } = require('azure-iothub');

async function main([connection, prefix]) {
  const registry = Registry.fromConnectionString(connection);
  const devices = [1, 2, 3].map((number) => ({ deviceId: `${prefix}-n${number}` }));
  const created = (await registry.addDevices(devices)).responseBody;
  // The client makes an error of a 400, with the body in its text.
  const again = await registry.addDevices(devices.slice(0, 1)).then(() => 'no error', (error) => error.message);
  await registry.updateDevices([{ ...devices[0], status: 'disabled' }], true);
  const updated = (await registry.get(devices[0].deviceId)).responseBody.status;
  const removed = (await registry.removeDevices(devices, true)).responseBody;
  return {
    created: [created.isSuccessful, created.errors.length],
    again: /"errorCode":"(\w+)"/.exec(again)[1],
    updated,
    removed: [removed.isSuccessful, removed.errors.length],
  };
}

main(process.argv.slice(2)).then(
  (told) => console.log(JSON.stringify(told)),
  (error) => console.log(JSON.stringify({ error: `${error.name}: ${error.message}` })),
).finally(() => process.exit());
