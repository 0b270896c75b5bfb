// A file through azure-iot-device, and the notification about it by azure-iothub, which is completed.
// Arguments: the device's connection string, the service's, the file's name, its size.
'use strict';

const { Readable } = require('node:stream');
const { Client: Device } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');
const { Client: Service } = require('azure-iothub');

const WAIT_MS = 45000;
const PIECE = 64 * 1024;

function bytes(size) {
  let left = size;
  return new Readable({
    read() {
      const piece = Math.min(left, PIECE);
      left -= piece;
      this.push(piece ? Buffer.alloc(piece, 7) : null);
    },
  });
}

async function notification(service) {
  const receiver = await new Promise((resolve, reject) => {
    service.getFileNotificationReceiver((error, found) => (error ? reject(error) : resolve(found)));
  });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no file notification')), WAIT_MS);
    receiver.on('errorReceived', reject);
    receiver.on('message', (message) => {
      clearTimeout(timer);
      receiver.complete(message).then(() => resolve(JSON.parse(message.data.toString())), reject);
    });
  });
}

async function main([deviceString, serviceString, name, size]) {
  const device = Device.fromConnectionString(deviceString, Mqtt);
  await device.open();
  await device.uploadToBlob(name, bytes(Number(size)), Number(size));
  await device.close();
  const service = Service.fromConnectionString(serviceString);
  await service.open();
  const told = await notification(service);
  await service.close();
  return told;
}

main(process.argv.slice(2)).then(
  (told) => console.log(JSON.stringify(told)),
  (error) => console.log(JSON.stringify({ error: `${error.name}: ${error.message}` })),
).finally(() => process.exit());
