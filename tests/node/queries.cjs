// Queries of azure-iothub's Registry, page by page. Arguments: the service's connection string, the devices' batch tag.
'use strict';

const { Registry } = require('azure-iothub');

// Without its token, a promise's `next` would begin again at the first page.
async function all(query, next) {
  const found = [];
  while (query.hasMoreResults) found.push((await query[next](query.continuationToken)).result);
  return found;
}

async function main([connection, batch]) {
  const registry = Registry.fromConnectionString(connection);
  const where = `WHERE tags.batch = '${batch}'`;
  const twins = registry.createQuery(`SELECT * FROM devices ${where} AND tags.n >= 1 OR deviceId = 'no''body'`, 2);
  const named = registry.createQuery(`SELECT DeviceId, tags.n AS n FROM devices ${where} AND NOT tags.n IN [0, 1]`, 2);
  const counted = registry.createQuery(`SELECT tags.odd AS odd, COUNT() AS n FROM devices ${where} GROUP BY tags.odd`, 1);
  const wrong = registry.createQuery('SELECT * FROM devices WHERE LIKE(deviceId)');
  return {
    twins: (await all(twins, 'nextAsTwin')).map((page) => page.map((twin) => [twin.deviceId, twin.tags.n])),
    named: await all(named, 'next'),
    counted: (await all(counted, 'next')).map((page) => page[0]),
    wrong: await wrong.next().then(() => 'no error', (error) => [error.name, error.responseBody]),
  };
}

main(process.argv.slice(2)).then(
  (told) => console.log(JSON.stringify(told)),
  (error) => console.log(JSON.stringify({ error: `${error.name}: ${error.message}` })),
).finally(() => process.exit());
