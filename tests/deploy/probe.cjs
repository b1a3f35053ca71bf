// Asks a gRPC server's health service as the kubelet's probes do:
//
//   node probe.cjs NPM_FOLDER HOST:PORT SERVICE
//
// Exit status 0 when the service is SERVING; otherwise 1 and a word why.
const { createRequire } = require("node:module");
const [npmFolder, address, service] = process.argv.slice(2);
const grpc = createRequire(`${npmFolder}/package.json`)("@grpc/grpc-js");

// HealthCheckRequest: field 1, a string. HealthCheckResponse: field 1, an enum; 1 is SERVING.
const encode = (name) => Buffer.concat([Buffer.from([0x0a, name.length]), Buffer.from(name)]);
const decode = (bytes) => (bytes.length === 2 && bytes[0] === 0x08 ? bytes[1] : 0);

const client = new grpc.Client(address, grpc.credentials.createInsecure());
const deadline = Date.now() + 5000;
client.makeUnaryRequest("/grpc.health.v1.Health/Check", encode, decode, service, { deadline }, (error, status) => {
  if (error !== null || status !== 1) console.log(error?.details ?? "NOT_SERVING");
  process.exit(error === null && status === 1 ? 0 : 1);
});
