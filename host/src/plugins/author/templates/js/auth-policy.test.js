import assert from 'node:assert/strict';
import test from 'node:test';

import { decide, readSettings } from '../rules.js';

const user = { id: 'ada', admin: false, collections: ['exam'] };
const command = (kind, collection) => ({ tag: 'command', val: { kind, lab: { collection: { name: collection } } } });

test('labs of a protected collection are for administrators', () => {
  const settings = readSettings('{}');
  assert.equal(decide(settings, user, command('deploy', 'exam')).rule, 'protected');
  assert.equal(decide(settings, { ...user, admin: true }, command('deploy', 'exam')), undefined);
  assert.equal(decide(settings, user, command('deploy', 'course')), undefined);
  assert.equal(decide(settings, user, command('list-shells', 'exam')), undefined);
});

test('a misspelt setting is named', () => {
  assert.throws(
    () => readSettings('{"protectd": []}'),
    (reason) => reason.includes('protectd'),
  );
});
