// What flagd_engine.py does, by the engine of Node: its packages are in the folder that is named.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(`${process.argv[2]}/`);
const { FlagdCore } = require('@openfeature/flagd-core');

const silent = { error() {}, warn() {}, info() {}, debug() {} };
const job = JSON.parse(readFileSync(0, 'utf8'));
const core = new FlagdCore(undefined, silent);
core.setConfigurations(job.document);
const answers = job.asked.map(([key, context]) => {
  try {
    const found = key.startsWith('param.')
      ? core.resolveNumberEvaluation(key, 0, context, silent)
      : core.resolveStringEvaluation(key, '', context, silent);
    return found.errorCode
      ? [null, `${found.errorCode} ${found.errorMessage}`, {}]
      : [found.variant ?? null, String(found.reason), found.flagMetadata ?? {}];
  } catch (error) {
    return [null, String(error), {}];
  }
});
process.stdout.write(JSON.stringify(answers));
