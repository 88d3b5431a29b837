// An auth policy in JavaScript that misbehaves as the user's id says. The tools are those of examples/plugins/groups-js.

import { log } from 'antimony:plugin/logging@0.1.0';

let calls = 0;

export const lifecycle = {
  describe() {
    return { name: 'hostile-js', version: '0.1.0', summary: 'Misbehaves as the name of the user says' };
  },
  configure() {},
};

const WAYS = {
  loop() {
    for (;;) {}
  },
  // Nothing of it can be collected.
  bomb() {
    const kept = [];
    for (;;) {
      kept.push(new Uint8Array(1 << 20).fill(kept.length));
    }
  },
  text() {
    let text = 'x';
    for (;;) {
      text += text + String.fromCharCode(text.length & 0x7f);
    }
  },
  recurse() {
    const deeper = (n) => deeper(n + 1) + 1;
    deeper(0);
  },
  pattern() {
    /^(a+)+$/.test('a'.repeat(60) + '!');
  },
  fail() {
    throw new Error('on purpose');
  },
  answer() {
    throw { rule: 'long', message: 'x'.repeat(2 << 20) };
  },
  nonsense() {
    throw { rule: 7 };
  },
  log() {
    for (let n = 0; n < 1000; n++) {
      log('info', `line ${n} of far too many`);
    }
  },
  count() {
    calls += 1;
    throw { rule: 'count', message: String(calls) };
  },
};

export const policy = {
  identify() {
    return undefined;
  },
  authorize(user) {
    WAYS[user.id]?.();
  },
};
