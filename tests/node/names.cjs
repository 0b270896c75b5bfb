// Names that resolve as inside the plant, for the clients of this process; `node --require` loads it first.
"use strict";
const dns = require("dns");
const names = JSON.parse(process.env.TEST_NAMES || "{}");
const ask = dns.lookup;
dns.lookup = (host, ...rest) => ask(names[host] || host, ...rest);
