// An OpenID provider that is not ours (npm oidc-provider) on a free port of loopback, for clients that sign in with
// client_credentials. It prints its address; every line it reads makes it sign with new keys and publish no others.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';
import { createInterface } from 'node:readline';
import { join } from 'node:path';

const { Provider } = await import(
  pathToFileURL(join(process.argv[2], 'oidc-provider', 'lib', 'index.js')).href
);

function keys(generation) {
  const made = [
    ['EdDSA', generateKeyPairSync('ed25519')],
    ['ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' })],
    ['RS256', generateKeyPairSync('rsa', { modulusLength: 2048 })],
  ];
  return made.map(([alg, pair]) => ({
    ...pair.privateKey.export({ format: 'jwk' }),
    alg,
    use: 'sig',
    kid: `${alg}-${generation}`,
  }));
}

function provider(issuer, generation) {
  const clients = ['ada', 'mallory'].map((client_id) => ({
    client_id,
    client_secret: `secret-of-${client_id}`,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
  }));
  return new Provider(issuer, {
    clients,
    jwks: { keys: keys(generation) },
    cookies: { keys: ['of no use here'] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        // "urn:counterfoil:ES256" asks for a token for "urn:counterfoil" that is signed with ES256.
        getResourceServerInfo: (_, resource) => ({
          scope: 'govern',
          audience: resource.startsWith('urn:counterfoil:') ? 'urn:counterfoil' : resource,
          accessTokenTTL: 300,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: resource.split(':').pop() } },
        }),
      },
    },
  });
}

let current;
const server = createServer((request, response) => current.callback()(request, response));
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  let generation = 1;
  current = provider(issuer, generation);
  console.log(issuer);
  const lines = createInterface({ input: process.stdin });
  lines.on('line', () => {
    current = provider(issuer, ++generation);
    console.log(`generation ${generation}`);
  });
  // Whoever started it has gone.
  lines.on('close', () => process.exit(0));
});
