// What is around the browser: the real gateway with the real core, a TLS proxy before it as a home has one, and a stand-in
// for claude.ai that catches what is sent back there.

import { spawn, execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

export const PASSWORD = 'four plain words here';
export const CLIENT = { id: 'homelab', secret: 'secret-0123456789-0123456789' };
export const CALLBACK = 'https://claude.ai/api/mcp/auth_callback';
export const PUBLIC = 'https://mcp.example.com';

const listening = (server) => new Promise((done) => server.listen(0, '127.0.0.1', () => done(server.address().port)));

/** Starts everything; `close` ends it. */
export async function world(gatewayBinary, coreBinary) {
  const folder = mkdtempSync(join(tmpdir(), 'homelab-browser-'));
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', '/CN=test', '-addext', 'subjectAltName=DNS:mcp.example.com,DNS:claude.ai', '-keyout', key, '-out', cert], { stdio: 'ignore' });
  const tls = { key: readFileSync(key), cert: readFileSync(cert) };

  const env = {
    PATH: process.env.PATH, HOME: folder, STATE_DIR: join(folder, 'state'), PORT: '0', METRICS_ADDR: '127.0.0.1:0',
    CORE_COMMAND: `'${coreBinary}'`, CAPABILITY_LEVEL: '4', PUBLIC_URL: PUBLIC, TRUSTED_PROXIES: '127.0.0.1',
    OAUTH_CLIENT_ID: CLIENT.id, OAUTH_CLIENT_SECRET: CLIENT.secret, OWNER_PASSWORD: PASSWORD, DYNAMIC_REGISTRATION: 'on',
  };
  const gateway = spawn(gatewayBinary, [], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  const port = await new Promise((done, failed) => {
    gateway.stderr.setEncoding('utf8').on('data', (text) => {
      log += text;
      const found = log.match(/listening on http:\/\/127\.0\.0\.1:(\d+)\n/);
      if (found) done(Number(found[1]));
    });
    gateway.on('exit', () => failed(new Error(`the gateway ended\n${log}`)));
  });

  const proxy = https.createServer(tls, (request, response) => {
    // Each case is a visitor of its own, so that the wrong passwords of one do not slow down another.
    const visitor = /case\/(\d+)/.exec(request.headers['user-agent'] ?? '')?.[1] ?? '1';
    const headers = { ...request.headers, 'x-forwarded-for': `198.51.100.${visitor}` };
    const onwards = http.request({ port, host: '127.0.0.1', method: request.method, path: request.url, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(response);
    });
    onwards.on('error', () => response.destroy());
    request.pipe(onwards);
  });
  const claude = https.createServer(tls, (request, response) => {
    response.setHeader('content-type', 'text/html; charset=utf-8');
    const framed = request.url.startsWith('/frame?') ? decodeURIComponent(request.url.slice(7)) : '';
    response.end(framed ? `<title>frame</title><iframe id="f" src="${framed.replaceAll('&', '&amp;')}"></iframe>` : '<title>back</title><h1>Back at the app</h1>');
  });
  const local = http.createServer((_, response) => {
    response.setHeader('content-type', 'text/html');
    response.end('<title>back</title><h1>Back on this device</h1>');
  });
  const [proxyPort, claudePort, localPort] = [await listening(proxy), await listening(claude), await listening(local)];

  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--ignore-certificate-errors',
      `--host-resolver-rules=MAP mcp.example.com:443 127.0.0.1:${proxyPort}, MAP claude.ai:443 127.0.0.1:${claudePort}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost`],
  });
  const token = async (form) => {
    const answer = await fetch(`http://127.0.0.1:${port}/oauth/token`, { method: 'POST', body: new URLSearchParams(form) });
    return { status: answer.status, ...await answer.json() };
  };
  const call = (bearer) => fetch(`http://127.0.0.1:${port}/mcp`, {
    method: 'POST',
    headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }),
  });
  const close = async () => {
    await browser.close();
    [proxy, claude, local].forEach((server) => { server.closeAllConnections(); server.close(); });
    gateway.removeAllListeners('exit');
    const gone = new Promise((done) => gateway.on('exit', done));
    gateway.kill('SIGTERM');
    await gone;
    rmSync(folder, { recursive: true, force: true });
  };
  return { browser, port, localPort, token, call, close, log: () => log };
}

/** A request as an app makes it, with what it needs for the exchange. */
export function asking(change = {}) {
  const verifier = randomBytes(32).toString('base64url');
  const state = randomBytes(8).toString('hex');
  const query = {
    response_type: 'code', client_id: CLIENT.id, redirect_uri: CALLBACK, state, resource: `${PUBLIC}/mcp`,
    code_challenge: createHash('sha256').update(verifier).digest('base64url'), code_challenge_method: 'S256', ...change,
  };
  const url = `${PUBLIC}/authorize?${new URLSearchParams(query)}`;
  const form = (code) => ({
    grant_type: 'authorization_code', code, code_verifier: verifier, redirect_uri: query.redirect_uri,
    client_id: CLIENT.id, client_secret: CLIENT.secret, resource: query.resource,
  });
  return { url, state, form };
}
