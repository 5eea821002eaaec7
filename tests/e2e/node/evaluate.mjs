// Evaluates flags for some users with the OpenFeature SDK, whose EventHook tells OpenTelemetry.
// Arguments: the exporter (http or grpc), where it sends to, the number of users. KEY: the key.
import { OpenFeature } from '@openfeature/server-sdk';
import { EventHook } from '@openfeature/open-telemetry-hooks';
import { Metadata } from '@grpc/grpc-js';
import { logs } from '@opentelemetry/api-logs';
import { OTLPLogExporter as GrpcExporter } from '@opentelemetry/exporter-logs-otlp-grpc';
import { OTLPLogExporter as HttpExporter } from '@opentelemetry/exporter-logs-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';

const [kind, url, users] = process.argv.slice(2);
const authorization = `Bearer ${process.env.KEY}`;
let exporter;
if (kind === 'grpc') {
  const metadata = new Metadata();
  metadata.set('authorization', authorization);
  exporter = new GrpcExporter({ url, metadata });
} else {
  exporter = new HttpExporter({ url, headers: { authorization }, compression: 'gzip' });
}
const provider = new LoggerProvider({
  resource: resourceFromAttributes({ 'service.name': `node ${kind}`, 'service.instance.id': 'n1' }),
  processors: [new BatchLogRecordProcessor(exporter)],
});
logs.setGlobalLoggerProvider(provider);

// Splits one flag, with a text, and another one with an object; knows a third that is static.
const flagMetadata = { flagSetId: 'prod', version: '12' };
const splitter = {
  metadata: { name: 'splitter' },
  runsOn: 'server',
  async resolveStringEvaluation(key, _default, context) {
    if (key === 'banner') return { value: 'blue', variant: 'blue', reason: 'STATIC' };
    if (key !== 'checkout') throw new Error('no such flag');
    const variant = context.targetingKey?.endsWith('1') ? 'treatment' : 'control';
    return { value: variant, variant, reason: 'SPLIT', flagMetadata };
  },
  async resolveObjectEvaluation() {
    return { value: { colour: 'red' }, variant: 'red', reason: 'DEFAULT' };
  },
};
await OpenFeature.setProviderAndWait(splitter);
const client = OpenFeature.getClient();
client.addHooks(new EventHook());
for (let user = 0; user < Number(users); user++) {
  await client.getStringValue('checkout', 'control', { targetingKey: `customer-${user}` });
}
const one = { targetingKey: 'customer-0' };
await client.getStringValue('banner', 'red', one);
await client.getObjectValue('theme', {}, one);
await client.getStringValue('missing', 'none', one);
await client.getStringValue('checkout', 'control');
await provider.shutdown();
