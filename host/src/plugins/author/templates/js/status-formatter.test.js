import assert from 'node:assert/strict';
import test from 'node:test';

import { readSettings, word } from '../rules.js';

const lab = { id: 'lab-1', name: 'ospf' };

test('a deployed lab is named and everything else is left to others', () => {
  const status = word(readSettings('{}'), { tag: 'lab-deployed', val: { lab } });
  assert.equal(status.content, 'ospf is ready');
  assert.equal(status.logContent, 'ospf is ready (lab lab-1)');
  assert.equal(word(readSettings('{}'), { tag: 'lab-destroyed', val: { lab } }), undefined);
});

test('a misspelt setting is named', () => {
  assert.throws(
    () => readSettings('{"deploied": ""}'),
    (reason) => reason.includes('deploied'),
  );
});
