// A real OpenID provider for tests. Prints `listening on URL`; what it is told goes by POST /control, as JSON:
//
//   accounts: {name: {groups, email, …claims} | null}   who is there, and what is said of them
//   down: true | false                                  whether it answers anything but /control
//   rotate: true                                        signs with another key from now on, and shows no other
//   idToken: {…claims}                                  claims that ID tokens have instead of their own
//   otherKey: true | false                              signs ID tokens with a key that it doesn't show
//   denyUserInfo: true | false                          refuses access tokens where they are used
//
// and answers {refreshTokens, tokenRequests, given}: how many it has given that are good, how often it was asked for tokens,
// and all codes and tokens that it has ever given.
import {createServer} from 'node:http';
import {randomUUID} from 'node:crypto';
import {SignJWT, decodeJwt, decodeProtectedHeader, exportJWK, generateKeyPair} from 'jose';
import Provider from 'oidc-provider';

const options = JSON.parse(process.argv[2]);
const state = {accounts: {}, down: false, idToken: null, otherKey: false, denyUserInfo: false, tokenRequests: 0};

// What it keeps is kept apart from it, so that it stays when its keys change.
const kept = new Map();
const given = new Set();
class Adapter {
  constructor(model) {
    this.model = model;
  }
  key(id) {
    return `${this.model}:${id}`;
  }
  async upsert(id, payload) {
    if (/^(AuthorizationCode|AccessToken|RefreshToken)$/.test(this.model)) given.add(id);
    kept.set(this.key(id), {...payload});
  }
  async find(id) {
    return kept.get(this.key(id));
  }
  async #by(name, value) {
    for (const [key, payload] of kept) {
      if (key.startsWith(`${this.model}:`) && payload[name] === value) return payload;
    }
  }
  async findByUid(uid) {
    return this.#by('uid', uid);
  }
  async findByUserCode(code) {
    return this.#by('userCode', code);
  }
  async consume(id) {
    kept.get(this.key(id)).consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    kept.delete(this.key(id));
  }
  async revokeByGrantId(grantId) {
    for (const [key, payload] of kept) if (payload.grantId === grantId) kept.delete(key);
  }
}

async function newKey() {
  const {privateKey} = await generateKeyPair('RS256', {extractable: true});
  const kid = randomUUID();
  return {kid, privateKey, jwk: {...(await exportJWK(privateKey)), kid, alg: 'RS256', use: 'sig'}};
}

const cookieKey = randomUUID();
const server = createServer();
let key;
let handle;

async function build(issuer) {
  key = await newKey();
  const provider = new Provider(issuer, {
    adapter: Adapter,
    jwks: {keys: [key.jwk]},
    cookies: {keys: [cookieKey]},
    clients: options.clients,
    // As with providers in the field, `openid` alone is enough to learn of groups.
    claims: {openid: ['sub', 'groups', 'email', 'name']},
    features: {revocation: {enabled: true}, devInteractions: {enabled: true}},
    issueRefreshToken: async () => options.refreshTokens !== false,
    rotateRefreshToken: true,
    ttl: {AuthorizationCode: options.codeSeconds ?? 60, AccessToken: options.accessSeconds ?? 600, IdToken: 600, RefreshToken: 3600, Session: 3600, Grant: 3600, Interaction: 600},
    async findAccount(ctx, id) {
      const account = state.accounts[id];
      return account && {accountId: id, claims: async () => ({sub: id, ...account})};
    },
  });
  provider.use(async (ctx, next) => {
    if (ctx.path === '/me' && state.denyUserInfo) {
      ctx.status = 401;
      return;
    }
    await next();
    if (ctx.path === '/token') state.tokenRequests += 1;
    if (ctx.path === '/token' && ctx.body?.id_token && (state.idToken || state.otherKey)) {
      const claims = {...decodeJwt(ctx.body.id_token), ...state.idToken};
      const header = decodeProtectedHeader(ctx.body.id_token);
      const signer = state.otherKey ? (await newKey()).privateKey : key.privateKey;
      ctx.body.id_token = await new SignJWT(claims).setProtectedHeader(header).sign(signer);
    }
  });
  handle = provider.callback();
}

server.on('request', async (request, response) => {
  if (request.url !== '/control') {
    if (state.down) request.socket.destroy();
    else handle(request, response);
    return;
  }
  let body = '';
  for await (const part of request) body += part;
  const {rotate, accounts, ...rest} = JSON.parse(body || '{}');
  Object.assign(state, rest);
  Object.assign(state.accounts, accounts);
  if (rotate) await build(issuer);
  const good = [...kept].filter(([name, payload]) => name.startsWith('RefreshToken:') && !payload.consumed);
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({refreshTokens: good.length, tokenRequests: state.tokenRequests, given: [...given]}));
});

await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
await build(issuer);
console.log(`listening on ${issuer}`);
// It ends with whoever started it.
process.stdin.on('end', () => process.exit(0)).resume();
