// A message of azure-iot-device, which proves itself by a chain of certificates.
// Arguments: the device's connection string, files with its chain and its key.
'use strict';

const { readFileSync } = require('node:fs');
const { Client, Message } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');

async function main([connectionString, chain, key]) {
  const device = Client.fromConnectionString(connectionString, Mqtt);
  await device.setOptions({ cert: readFileSync(chain, 'utf8'), key: readFileSync(key, 'utf8') });
  await device.open();
  const sent = 'by our CA, from Node';
  await device.sendEvent(new Message(sent));
  await device.close();
  return { sent };
}

main(process.argv.slice(2)).then(
  (told) => console.log(JSON.stringify(told)),
  (error) => console.log(JSON.stringify({ error: `${error.name}: ${error.message}` })),
).finally(() => process.exit());
