// Configurations by azure-iothub's Registry. Arguments: the service's connection string, the id of an edge device.
'use strict';

const { Registry } = require('azure-iothub');

async function main([connection, device]) {
  const registry = Registry.fromConnectionString(connection);
  const id = `${device}-node`;
  const wanted = {
    id,
    schemaVersion: '1.0',
    content: { deviceContent: { 'properties.desired.chiller': { temperature: 66 } } },
    targetCondition: "tags.site = 'nowhere'",
    priority: 2,
    labels: { by: 'node' },
    metrics: { queries: {} },
  };
  const created = (await registry.addConfiguration(wanted)).responseBody;
  const got = (await registry.getConfiguration(id)).responseBody;
  const forced = (await registry.updateConfiguration({ ...got, priority: 3 }, true)).responseBody;
  const conditional = (await registry.updateConfiguration({ ...forced, priority: 4 })).responseBody;
  const stale = await registry.updateConfiguration({ ...got, priority: 5 }).then(() => '', (error) => error.name);
  const listed = (await registry.getConfigurations()).responseBody.some((each) => each.id === id);
  await registry.applyConfigurationContentOnDevice(device, {
    modulesContent: {
      $edgeAgent: { 'properties.desired': { modules: { camera: { version: '1.0' } } } },
      $edgeHub: { 'properties.desired': { routes: {} } },
      camera: { 'properties.desired': { rate: 5 } },
    },
  });
  const modules = (await registry.getModulesOnDevice(device)).responseBody.map((each) => each.moduleId).sort();
  await registry.removeConfiguration(id);
  const removed = await registry.getConfiguration(id).then(() => '', (error) => error.constructor.name);
  return {
    created: [created.etag, created.schemaVersion],
    got: Object.keys(got.systemMetrics.queries).sort(),
    forced: forced.priority,
    conditional: conditional.priority,
    stale,
    listed,
    modules,
    removed,
  };
}

main(process.argv.slice(2)).then(
  (told) => console.log(JSON.stringify(told)),
  (error) => console.log(JSON.stringify({ error: `${error.name}: ${error.message}` })),
).finally(() => process.exit());
