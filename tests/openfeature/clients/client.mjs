// OpenFeature clients for Node: the same commands and answers, a line each, as in client.py.
//   kinds: rpc, in-process, ofrep, and ofrep-web, the provider for browsers.

import readline from 'node:readline';

const happened = [];
let client;
let sdk;
let web = false;

function note(name) {
  return (details) => happened.push([name, [...(details?.flagsChanged ?? [])].sort()]);
}

async function provider(kind, options) {
  if (kind === 'ofrep') {
    const { OFREPProvider } = await import('@openfeature/ofrep-provider');
    return new OFREPProvider({ baseUrl: options.url, headers: Object.entries(options.headers) });
  }
  if (kind === 'ofrep-web') {
    const { OFREPWebProvider } = await import('@openfeature/ofrep-web-provider');
    return new OFREPWebProvider({
      baseUrl: options.url,
      headers: Object.entries(options.headers),
      pollInterval: options.pollInterval ?? 0,
      cacheMode: 'disabled',
    });
  }
  const { FlagdProvider } = await import('@openfeature/flagd-provider');
  return new FlagdProvider({ resolverType: kind, ...options });
}

async function connect({ kind, options }) {
  web = kind === 'ofrep-web';
  sdk = await import(web ? '@openfeature/web-sdk' : '@openfeature/server-sdk');
  const { OpenFeature, ProviderEvents } = sdk;
  for (const name of ['Ready', 'Error', 'Stale', 'ConfigurationChanged']) {
    OpenFeature.addHandler(ProviderEvents[name], note(name));
  }
  const start = performance.now();
  if (options.context) await OpenFeature.setContext(options.context);
  await OpenFeature.setProviderAndWait(await provider(kind, options));
  client = OpenFeature.getClient();
  return { seconds: (performance.now() - start) / 1000 };
}

const ASK = {
  boolean: 'getBooleanDetails',
  string: 'getStringDetails',
  integer: 'getNumberDetails',
  float: 'getNumberDetails',
  object: 'getObjectDetails',
};

function shown(found, detail) {
  const error = found.errorCode ?? null;
  if (!detail) return [found.value, error];
  return [found.value, found.variant ?? null, found.reason ?? null, error, found.flagMetadata];
}

async function evaluate({ flags, units, workers = 1, detail = false }) {
  const answers = new Array(units.length);
  let next = 0;
  async function work() {
    while (next < units.length) {
      const place = next++;
      const found = [];
      // The provider for browsers has one context, that of its user.
      if (web) await sdk.OpenFeature.setContext(units[place]);
      for (const [key, type, otherwise] of flags) {
        const one = web
          ? client[ASK[type]](key, otherwise)
          : await client[ASK[type]](key, otherwise, units[place]);
        found.push(shown(one, detail));
      }
      answers[place] = found;
    }
  }
  await Promise.all(Array.from({ length: web ? 1 : workers }, work));
  return answers;
}

const commands = {
  connect,
  evaluate,
  events: async () => happened.splice(0),
  close: async () => sdk.OpenFeature.close(),
};

// Standard output is for answers.
for (const level of ['log', 'info', 'debug']) console[level] = console.error;

for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { answer: (await commands[command.do](command)) ?? null };
  } catch (error) {
    answer = { failed: String(error?.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
  if (command.do === 'close') process.exit(0);
}
