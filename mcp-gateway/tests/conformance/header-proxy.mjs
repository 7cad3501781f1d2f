// The conformance suite has no option for a token, so this adds one on the way:
//   header-proxy.mjs UPSTREAM 'Name: value'...
// Listens on a free loopback port and prints it. Everything else passes as it came, in both
// directions and piece by piece; Host and Origin too, which the gateway is tested for. A
// client that goes away takes its request to the gateway with it.
import http from 'node:http';

const [upstream, ...added] = process.argv.slice(2);
const { hostname, port } = new URL(upstream);
const headers = added.map((line) => {
  const at = line.indexOf(':');
  return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
});
const names = new Set(headers.map(([name]) => name.toLowerCase()));

function passedOn(raw) {
  const kept = [];
  for (let i = 0; i < raw.length; i += 2) {
    if (!names.has(raw[i].toLowerCase())) kept.push(raw[i], raw[i + 1]);
  }
  return kept.concat(headers.flat());
}

const server = http.createServer((request, response) => {
  const { method, url: path, rawHeaders } = request;
  const sent = http.request({ hostname, port, method, path, headers: passedOn(rawHeaders) }, (answer) => {
    response.writeHead(answer.statusCode, answer.statusMessage, answer.rawHeaders);
    response.flushHeaders();
    answer.pipe(response);
    // An answer that breaks off must not look complete.
    answer.on('error', () => response.destroy());
  });
  sent.on('error', (error) => {
    if (response.headersSent) response.destroy();
    else response.writeHead(502, { 'content-type': 'text/plain' }).end(`${error}\n`);
  });
  response.on('close', () => sent.destroy());
  request.pipe(sent);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
