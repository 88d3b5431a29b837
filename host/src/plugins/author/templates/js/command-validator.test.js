import assert from 'node:assert/strict';
import test from 'node:test';

import { check, readSettings } from '../rules.js';

test('one shell too many is rejected and everything else is not', () => {
  const settings = readSettings('{"max-shells": 2}');
  assert.equal(check(settings, { kind: 'open-shell' }, 1), undefined);
  assert.equal(check(settings, { kind: 'open-shell' }, 2).rule, 'max-shells');
  assert.equal(check(settings, { kind: 'list-shells' }, 2), undefined);
});

test('a misspelt setting is named', () => {
  assert.throws(
    () => readSettings('{"max_shells": 1}'),
    (reason) => reason.includes('max_shells') && reason.includes('"max-shells"'),
  );
});
