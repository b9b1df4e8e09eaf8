// The judge: a certified authorization server, with rotation on and strangers' logins allowed.
// Arguments: the directory with its node_modules, and its clients as JSON.

import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [directory, clients] = process.argv.slice(2);
const library = join(directory, 'node_modules', 'oidc-provider', 'lib', 'index.js');
const { default: Provider } = await import(pathToFileURL(library));

const listener = createServer();
await new Promise((resolve) => listener.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${listener.address().port}`;
const provider = new Provider(issuer, {
  clients: JSON.parse(clients),
  cookies: { keys: ['made-up'] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
  },
  pkce: { methods: ['S256'], required: () => true },
  rotateRefreshToken: true,
  routes: {
    authorization: '/oauth/authorize',
    introspection: '/oauth/introspect',
    revocation: '/oauth/revoke',
    token: '/oauth/token',
  },
  scopes: ['openid', 'offline_access', 'messages'],
});
listener.on('request', provider.callback());
console.log(`ready ${issuer}`);
process.stdin.on('end', () => process.exit(0)).resume();
